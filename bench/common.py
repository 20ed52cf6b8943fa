"""What the benchmarks share: processes that are timed, sample data, tables and results."""

import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from deltalake import DeltaTable

BENCH = Path(__file__).parent
INGEST = Path(sys.executable).with_name("ingest")
RESULTS = BENCH / "results"
GIB = 1024**3
MIB = 1024**2


# A command line; its paths may be Path objects.
Command = Sequence[str | Path]


# --- processes ------------------------------------------------------------------------------------


class Run(NamedTuple):
    """A process from start to end; its peak resident memory in bytes, its processor time."""

    seconds: float
    peak_bytes: int
    output: str
    processor_seconds: float


# A process counts the memory of the one that started it as its own until it has begun; so a small
# one starts it.
_LAUNCHER = """
import json, os, sys, time
began = time.perf_counter()
process = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, used = os.wait4(process, 0)
facts = (
    time.perf_counter() - began,
    used.ru_maxrss * 1024,
    used.ru_utime + used.ru_stime,
    os.waitstatus_to_exitcode(status),
)
with open(sys.argv[1], "w") as file:
    json.dump(facts, file)
"""


def run(command: Command, scratch: Path) -> Run:
    """Run a command to its end; raise RuntimeError where it fails. `scratch`: a folder."""
    report = scratch / "run.json"
    launcher: Command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, report]
    done = subprocess.run(  # noqa: S603 - our own commands
        [*launcher, *command], capture_output=True, text=True, check=False
    )
    facts = json.loads(report.read_text()) if not done.returncode else (0, 0, 0, 1)
    seconds, peak_bytes, processor_seconds, code = facts
    if code:
        raise RuntimeError(f"{command} failed: {done.stderr[-2000:]}")
    return Run(seconds, peak_bytes, done.stdout, processor_seconds)


def medians(runs: Sequence[Run]) -> tuple[float, int]:
    """Return the median seconds and the median peak of memory."""
    seconds = statistics.median(r.seconds for r in runs)
    return seconds, round(statistics.median(r.peak_bytes for r in runs))


# --- the job --------------------------------------------------------------------------------------


class Job:
    """`ingest` with one feed named `events`, in a folder of its own."""

    def __init__(self, folder: Path, feed: Mapping[str, Any], broker: str | None = None) -> None:
        """Write the feeds file; the folder is emptied."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.lakehouse, self.feeds, self._folder = (
            folder / "lakehouse",
            folder / "feeds.yml",
            folder,
        )
        self.broker = broker
        self.set_feed(feed)

    def set_feed(self, feed: Mapping[str, Any]) -> None:
        """Run with this feed from now on."""
        content: dict[str, Any] = {"feeds": {"events": dict(feed)}}
        if self.broker:
            content["kafka_settings"] = {"bootstrap.servers": self.broker}
        self.feeds.write_text(yaml.safe_dump(content))

    def command(self, *mode: str) -> list[str | Path]:
        """Return the command line."""
        return [INGEST, "run", *mode, "--feeds", self.feeds, "--lakehouse", self.lakehouse]

    def run_once(self) -> Run:
        """Land what there is."""
        return run(self.command("--once"), self._folder)

    @property
    def log(self) -> Path:
        """The folder of the bronze table's commits."""
        return self.lakehouse / "bronze" / "events" / "_delta_log"

    def rows(self) -> int:
        """Return how many rows bronze has."""
        return count_rows(self.log.parent)


def count_rows(table: Path) -> int:
    """Return the rows of a Delta table, by its log."""
    return int(DeltaTable(table).count())


def expect(found: int, wanted: int, who: str) -> int:
    """Return the number of rows that `who` has; a benchmark of less work is none."""
    if found != wanted:
        raise RuntimeError(f"{who}: {found:,} rows, not {wanted:,}")
    return found


# --- sample data ----------------------------------------------------------------------------------

_COMPACT = (",", ":")
_MERCHANTS = ("Corner Market", "Blue Fin Sushi", "Transit Authority", "Hotel Aurora", "Book & Bean")
_CATEGORIES = ("groceries", "dining", "travel", "lodging", "entertainment", "fuel")


def _details(count: int) -> Iterator[dict[str, str]]:
    """Yield what rows hold besides their id."""
    chance = random.Random(7)  # noqa: S311 - sample data
    for _ in range(count):
        yield {
            "customer_id": f"C{chance.randrange(10**8):08d}",
            "account_id": f"A{chance.randrange(10**10):010d}",
            "amount": f"{chance.randrange(10**7) / 100:.2f}",
            "currency": chance.choice(("USD", "EUR", "GBP")),
            "merchant": chance.choice(_MERCHANTS),
            "category": chance.choice(_CATEGORIES),
            "occurred_at": f"2026-0{chance.randint(1, 9)}-{chance.randint(10, 28)}T"
            f"{chance.randint(10, 23)}:{chance.randint(10, 59)}:{chance.randint(10, 59)}Z",
        }


def _numbered(texts: Iterable[str], count: int, most: int) -> Iterator[tuple[int, str]]:
    """Number texts up to `count`; more than `most` are those again."""
    known = list(islice(texts, min(count, most)))
    return zip(range(count), cycle(known), strict=False)


# Besides those above: what brings a CSV row, which has no names in it, to the size of an object.
_CSV_DETAILS = {
    "city": "Springfield",
    "reference": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "note": "card present and chip read",
}


def csv_lines(rows: int, *, quoted: bool) -> Iterator[str]:
    """Yield a header and rows of some 170 bytes; each `transaction_id` stands once."""
    quote = '"' if quoted else ""

    def line(values: Iterable[str]) -> str:
        return ",".join(f"{quote}{value}{quote}" for value in values)

    (sample,) = _details(1)
    yield line(("transaction_id", *sample, *_CSV_DETAILS)) + "\n"
    rests = (line((*row.values(), *_CSV_DETAILS.values())) for row in _details(rows))
    for n, rest in _numbered(rests, rows, 500_000):
        yield f"{quote}T{n:011d}{quote},{rest}\n"


def json_lines(rows: int) -> Iterator[str]:
    """Yield objects of some 215 bytes; each `transaction_id` stands once."""
    rests = (json.dumps(row, separators=_COMPACT)[1:] for row in _details(rows))
    for n, rest in _numbered(rests, rows, 500_000):
        yield f'{{"transaction_id":"T{n:011d}",{rest}\n'


def messages(count: int) -> Iterator[bytes]:
    """Yield objects of some 577 bytes, envelopes like Debezium's."""
    source = {
        **{"version": "3.6.0.Final", "connector": "postgresql", "name": "bank"},
        **{"ts_ms": 1_780_000_000_000, "ts_us": 1_780_000_000_000_000, "snapshot": "false"},
        **{"db": "bank", "schema": "public", "table": "card_transactions", "txId": 771_203},
        **{"sequence": '["34359738000","34359738368"]', "lsn": 34_359_738_368},
        **{"xmin": None, "origin": "primary"},
    }
    end = f',"source":{json.dumps(source, separators=_COMPACT)},"op":"c","ts_ms":1780000000123}}'
    rests = (json.dumps(row, separators=_COMPACT)[1:] + end for row in _details(count))
    for n, rest in _numbered(rests, count, 50_000):
        yield f'{{"before":null,"after":{{"transaction_id":"T{n:011d}",{rest}'.encode()


def write_files(folder: Path, kind: str, rows: int, rows_per_file: int) -> None:
    """Write rows of `ndjson`, `csv` or `csv_quoted` into files that end in .ndjson or .csv."""
    folder.mkdir(parents=True)
    lines = json_lines(rows) if kind == "ndjson" else csv_lines(rows, quoted=kind == "csv_quoted")
    header = "" if kind == "ndjson" else next(lines)
    for number in range(-(-rows // rows_per_file)):
        wanted = min(rows_per_file, rows - number * rows_per_file)
        with (folder / f"{number:04d}.{kind.partition('_')[0]}").open("w") as file:
            file.write(header)
            file.writelines(islice(lines, wanted))


def files_feed(kind: str, folder: Path) -> dict[str, Any]:
    """Return the feed over a folder that `write_files` wrote."""
    value_format = kind.partition("_")[0]
    path = {"path": str(folder), "glob": f"*.{value_format}"}
    return {"files": path, "format": value_format, "key": ["transaction_id"]}


def kafka_feed(topic: str, **options: Any) -> dict[str, Any]:
    """Return the feed over a topic."""
    return {"kafka": {"topics": [topic], **options}, "format": "json"}


# --- what is printed and kept ---------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """Return what the numbers depend on besides the code."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / GIB, 1),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print columns, the first to the left, the others to the right."""
    cells = [list(head), *([f"{c:,}" if isinstance(c, int) else str(c) for c in r] for r in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    for line in cells:
        first, *others = (text.rjust(width) for text, width in zip(line, widths, strict=True))
        print("  ".join([first.strip().ljust(widths[0]), *others]), flush=True)


def finish(name: str, before: Mapping[str, Any], results: Mapping[str, Any]) -> None:
    """Print the machine, and write bench/results/<name>.json. `before`: the machine at start."""
    print(", ".join(f"{key} {value}" for key, value in before.items()))
    RESULTS.mkdir(exist_ok=True)
    content = {"machine": before, **results}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
