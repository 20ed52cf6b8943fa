"""How fast files are landed, beside DuckDB (the reference) and dlt.

    make bench-ingest_files
    make bench-ingest_files ARGS="--rows 100000 --peers"

Every engine is a process that reads the same files and writes its kind of table; of `start` seconds
each, it does nothing but begin and end. The engines take turns, so that whatever else the machine
does meets all of them. Targets, rates without the start: 0.70 of DuckDB's, 3 times dlt's with
Arrow, 20 times dlt's default.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from bench import common

DLT = "1.31.0"
ENVIRONMENT = common.BENCH.parent / ".venv-bench"
PEERS = common.BENCH / "peers"
# Name, kind of file, rows per file (None: all in one).
SETS = (
    ("ndjson", "ndjson", None),
    ("ndjson, files of 50,000", "ndjson", 50_000),
    ("csv", "csv", None),
    ("csv, quoted", "csv_quoted", None),
)

# Runs in an emptied folder; returns the process and the rows that are there afterwards.
Engine = Callable[[Path], tuple[common.Run, int]]


def ours(kind: str, files: Path) -> Engine:
    """`ingest run --once` into a fresh lakehouse."""

    def engine(folder: Path) -> tuple[common.Run, int]:
        job = common.Job(folder, common.files_feed(kind, files))
        return job.run_once(), job.rows()

    return engine


def ours_idle(kind: str, files: Path, folder: Path) -> Callable[[], common.Run]:
    """`ingest run --once` where all is landed."""
    job = common.Job(folder, common.files_feed(kind, files))
    job.run_once()
    return job.run_once


def duckdb(kind: str, files: Path) -> Engine:
    """DuckDB's COPY with two threads."""

    def engine(folder: Path) -> tuple[common.Run, int]:
        to = folder / "out.parquet"
        script: common.Command = [sys.executable, PEERS / "duckdb_files.py"]
        done = common.run([*script, kind.partition("_")[0], files, to], folder)
        return done, pq.ParquetFile(to).metadata.num_rows

    return engine


def dlt(way: str, kind: str, files: Path) -> Engine:
    """Dlt into Delta, in its own environment."""

    def engine(folder: Path) -> tuple[common.Run, int]:
        command: common.Command = [ENVIRONMENT / "bin" / "python", PEERS / "dlt_files.py", way]
        done = common.run([*command, kind.partition("_")[0], files, folder], folder)
        return done, common.count_rows(folder / "bench" / "events")

    return engine


def install_dlt() -> None:
    """Make the environment of dlt, unless it is there."""
    if not (ENVIRONMENT / DLT).exists():
        print(f"installing dlt {DLT} into {ENVIRONMENT.name}/", flush=True)
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        pip: common.Command = [ENVIRONMENT / "bin" / "python", "-m", "pip", "install", "--quiet"]
        packages = [f"dlt[deltalake,filesystem,parquet]=={DLT}", "pandas"]
        subprocess.run([*pip, *packages], check=True)  # noqa: S603 - our own command
        (ENVIRONMENT / DLT).touch()


def measure_set(
    name: str, kind: str, files: Path, rows: int, runs: int, scratch: Path, *, peers: bool
) -> list[dict[str, Any]]:
    """Run every engine over one set of files; the first is ours, the second DuckDB."""
    engines: dict[str, Engine] = {"ingest": ours(kind, files), "duckdb": duckdb(kind, files)}
    idle: dict[str, Callable[[], common.Run]] = {
        "ingest": ours_idle(kind, files, scratch / "idle"),
        "duckdb": lambda: common.run([sys.executable, PEERS / "duckdb_files.py"], scratch),
    }
    if peers:
        nothing: common.Command = [ENVIRONMENT / "bin" / "python", PEERS / "dlt_files.py"]
        for way in ("arrow", "default"):
            engines[f"dlt {way}"] = dlt(way, kind, files)
            idle[f"dlt {way}"] = lambda: common.run(nothing, scratch)
    done: dict[str, list[common.Run]] = {engine: [] for engine in engines}
    starts: dict[str, list[common.Run]] = {engine: [] for engine in engines}
    counts: dict[str, int] = {}
    for _ in range(runs):
        for engine, run in engines.items():
            folder = scratch / "run"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            measured, found = run(folder)
            counts[engine] = common.expect(found, rows, f"{name}: {engine}")
            done[engine].append(measured)
            starts[engine].append(idle[engine]())
    results: list[dict[str, Any]] = []
    for engine in engines:
        seconds, peak = common.medians(done[engine])
        start, _ = common.medians(starts[engine])
        rate = rows / (seconds - start)
        results.append(
            {"set": name, "engine": engine, "rows": counts[engine], "peak_bytes": peak}
            | {"median_seconds": seconds, "start_seconds": start}
            | {"rows_per_second": rows / seconds, "rows_per_second_without_start": rate}
            | {"ours_to_it": results[0]["rows_per_second_without_start"] / rate if results else 1}
            | {"seconds": [run.seconds for run in done[engine]]}
        )
    return results


def as_row(result: Mapping[str, Any]) -> list[object]:
    """Return what is printed of a result."""
    numbers = (f"{result['median_seconds']:.2f}", f"{result['start_seconds']:.2f}")
    rates = (round(result[k]) for k in ("rows_per_second", "rows_per_second_without_start"))
    peak = round(result["peak_bytes"] / common.MIB)
    place = (f"{result['set']}: {result['engine']}", result["rows"])
    return [*place, *numbers, *rates, f"{result['ours_to_it']:.2f}", peak]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peers", action="store_true", help="also dlt, in .venv-bench")
    options = parser.parse_args()
    before = common.machine()
    if options.peers:
        install_dlt()
        os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    results = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for number, (title, kind, per_file) in enumerate(SETS):
            files = scratch / f"files{number}"
            common.write_files(files, kind, options.rows, per_file or options.rows)
            size = sum(path.stat().st_size for path in files.iterdir())
            found = measure_set(
                title, kind, files, options.rows, options.runs, scratch, peers=options.peers
            )
            results += [{**result, "file_bytes": size} for result in found]
            shutil.rmtree(files)
    head = ("files: engine", "rows", "s", "start s", "rows/s", "without start", "ours/it", "MiB")
    common.print_table(head, [as_row(result) for result in results])
    common.finish("ingest_files", before, {"runs": options.runs, "results": results})


if __name__ == "__main__":
    main()
