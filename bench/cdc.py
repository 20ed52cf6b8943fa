"""How fast changes become tables, beside statements written by hand and other tools.

    make bench-cdc
    make bench-cdc ARGS="--events 1000000 5000000 --runs 3 --peers"

A bronze Delta table of Debezium envelopes is made a current table and a history (see
cdc_project/), then a tail of 10,000 records is applied; and 1 M events arrive in twenty batches. Of
dbt the time of the node counts, from compilation to the last hook; `whole` is the invocation, and
one that finds nothing to do is given beside it. The statements by hand (cdc_statements.py) run in
this process with as many threads, on the same table. Contestants take turns. `differ` counts the
rows that are not what the drawn events mean (cdc_data.py).
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import yaml
from dbt.cli.main import dbtRunner
from dbt_common.events.base_types import EventMsg

from bench import cdc_statements, common
from bench.cdc_data import COLUMNS, TAIL, Stream

PROJECT = common.BENCH / "cdc_project"
ENVIRONMENT = common.BENCH.parent / ".venv-bench"
PEERS = {
    "polars": ("polars==2.1.0", "deltalake==1.6.6"),
    "spark": ("pyspark==4.2.0",),
}
BATCH_ROWS = 100_000
SMALL_BATCHES = (20, 50_000)
STATE, HISTORY, PLAIN = "accounts_state", "accounts_history", "plain_merge"
NAMES = {
    STATE: "cdc_current",
    HISTORY: "cdc_history",
    PLAIN: "plain dbt merge",
}


class Took(NamedTuple):
    """Wall-clock and processor time of the work; wall-clock time with the start, in seconds."""

    seconds: float
    cpu_seconds: float | None
    whole_seconds: float


def cpu_seconds() -> float:
    """Return the processor time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Lakehouse:
    """A folder with the bronze table, the database of the dbt project and those of the hand."""

    def __init__(self, path: Path, bronze: Path | None = None) -> None:
        """Make the folder; `bronze` is linked into it, so that appending leaves it as it is."""
        self.path, self.bronze = path, path / "bronze" / "accounts"
        self.database = path / "insights.duckdb"
        path.mkdir(parents=True)
        if bronze:
            shutil.copytree(bronze, self.bronze, copy_function=os.link)
        output = {
            "type": "duckdb",
            "path": str(self.database),
            "schema": "main",
            "threads": 1,
            "extensions": ["delta"],
            "settings": {"TimeZone": "UTC", "threads": 2},
        }
        profile = {"realtime_insights": {"target": "bench", "outputs": {"bench": output}}}
        (path / "profiles.yml").write_text(yaml.safe_dump(profile))

    @contextmanager
    def _environment(self) -> Iterator[None]:
        settings = {
            "LAKEHOUSE_PATH": str(self.path),
            "DBT_PROFILES_DIR": str(self.path),
            "DBT_TARGET_PATH": str(self.path.parent / "target"),
            "DBT_LOG_PATH": str(self.path.parent / "logs"),
        }
        before = {name: os.environ.get(name) for name in settings}
        os.environ.update(settings)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name)
                else:
                    os.environ[name] = value

    def dbt(self, model: str) -> Took:
        """Run one model, in this process."""
        at: dict[str, float] = {}

        def note(event: EventMsg) -> None:
            is_edge = event.info.name in ("NodeStart", "NodeFinished")
            if is_edge and event.data.node_info.node_name == model:
                at[event.info.name] = cpu_seconds()

        command = ["--quiet", "run", "--select", model, "--project-dir", str(PROJECT)]
        with self._environment():
            began = time.perf_counter()
            done = dbtRunner(callbacks=[note]).invoke(command)
            whole = time.perf_counter() - began
        if not done.success:
            raise RuntimeError(f"{model}: {done.exception or done.result}")
        results: Any = done.result
        (node,) = (r for r in results if r.node.name == model)
        return Took(node.execution_time, at["NodeFinished"] - at["NodeStart"], whole)

    def by_hand(self, name: str, statements: Sequence[str], batch: int = 0) -> Took:
        """Execute statements in a database of this name."""
        with duckdb.connect(self.path / f"{name}.duckdb", config={"threads": 2}) as connection:
            connection.execute("load delta")
            connection.execute(f"set variable bronze = '{self.bronze}'")
            connection.execute(f"set variable batch = {batch}")
            began, cpu = time.perf_counter(), cpu_seconds()
            for statement in statements:
                connection.execute(statement)
            seconds = time.perf_counter() - began
            return Took(seconds, cpu_seconds() - cpu, seconds)


# --- what is measured -----------------------------------------------------------------------------

Runs = dict[tuple[str, str], list[Took]]
HAND = {"by hand, all parsed": "all", "by hand, winners first": "winners"}


def contents(name: str) -> str:
    """Return the query that reads what a contestant made."""
    if name == NAMES[HISTORY]:
        return f"select {COLUMNS}, valid_from, valid_to from bench.{HISTORY} where _is_version"  # noqa: S608 - constants
    table = {NAMES[STATE]: f"bench.{STATE} where not _is_deleted"}
    table[NAMES[PLAIN]] = f"bench.{PLAIN} where not is_deleted"
    return f"select {COLUMNS} from {table.get(name, 'accounts where not is_deleted')}"  # noqa: S608 - constants


def check(lake: Lakehouse, stream: Stream, name: str, database: str, end: int) -> int:
    """Return how many rows of a contestant's table are not right."""
    history = name == NAMES[HISTORY]
    return stream.differing(lake.path / database, contents(name), end, history=history)


def load_and_tail(
    events: int, runs: int, scratch: Path, peers: Sequence[str]
) -> list[dict[str, Any]]:
    """A full load and a tail on top of it, by every contestant."""
    stream = Stream(events)
    base = scratch / "base"
    stream.land(base, 0, stream.loaded, BATCH_ROWS)
    done: Runs = {}
    wrong: dict[tuple[str, str], int] = {}

    def took(job: str, name: str, measured: Took) -> None:
        done.setdefault((job, name), []).append(measured)

    for number in range(runs):
        # dbt keeps a database open as long as it is asked for no other: never the same path again.
        lake = Lakehouse(scratch / f"run{number}", base)
        lake.dbt("stg_accounts")
        took("full load", NAMES[STATE], lake.dbt(STATE))
        took("full load", "by hand, all parsed", lake.by_hand("all", [cdc_statements.PARSE_ALL]))
        took(
            "full load",
            "by hand, winners first",
            lake.by_hand("winners", [cdc_statements.WINNERS_FIRST]),
        )
        took("full load", NAMES[HISTORY], lake.dbt(HISTORY))
        took("full load", NAMES[PLAIN], lake.dbt(PLAIN))
        for peer in peers:
            result = lake.path / f"{peer}.parquet"
            took("full load", peer, run_peer(peer, base, result, scratch))
            if number == 0:
                files = f"{result}/*.parquet" if result.is_dir() else result
                query = f"select {COLUMNS} from '{files}'"  # noqa: S608 - our own path
                wrong["full load", peer] = stream.differing(lake.database, query, stream.loaded)
        for job, end in (("full load", stream.loaded), ("tail", stream.records)):
            if job == "tail":
                stream.land(lake.bronze, stream.loaded, stream.records, TAIL)
                batch = -(-stream.loaded // BATCH_ROWS) + 1
                took(job, NAMES[STATE], lake.dbt(STATE))
                took(job, "by hand, staged", lake.by_hand("all", cdc_statements.BATCH, batch))
                took(job, NAMES[HISTORY], lake.dbt(HISTORY))
                took(job, NAMES[PLAIN], lake.dbt(PLAIN))
                took("nothing new", NAMES[STATE], lake.dbt(STATE))
            if number == 0:
                for name in (name for at, name in done if at == job and name not in peers):
                    database = {**HAND, "by hand, staged": "all"}.get(name, "insights")
                    wrong[job, name] = check(lake, stream, name, f"{database}.duckdb", end)
    return [summary(events, job, name, runs, wrong) for (job, name), runs in done.items()]


def summary(
    events: int, job: str, name: str, runs: Sequence[Took], wrong: Mapping[tuple[str, str], int]
) -> dict[str, Any]:
    """Return the medians of a contestant."""
    seconds = statistics.median(run.seconds for run in runs)
    whole = statistics.median(run.whole_seconds for run in runs)
    known = [run.cpu_seconds for run in runs if run.cpu_seconds is not None]
    cpu = statistics.median(known) if known else None
    return {
        **{"events": events, "job": job, "contestant": name},
        **{"median_seconds": seconds, "median_cpu_seconds": cpu, "median_whole_seconds": whole},
        **{"differ": wrong.get((job, name)), "seconds": [run.seconds for run in runs]},
        "cpu_seconds": known,
    }


def small_batches(scratch: Path) -> list[dict[str, Any]]:
    """Batch after batch in a row: current state by dbt, and by hand."""
    count, rows = SMALL_BATCHES
    stream = Stream(count * rows)
    lake = Lakehouse(scratch / "small")
    job = f"{count} batches of {rows:,}"
    done: Runs = {(job, NAMES[STATE]): [], (job, "by hand, staged"): []}
    for batch in range(1, count + 1):
        stream.land(lake.bronze, (batch - 1) * rows, batch * rows, rows)
        if batch == 1:
            lake.dbt("stg_accounts")
        done[job, NAMES[STATE]].append(lake.dbt(STATE))
        done[job, "by hand, staged"].append(lake.by_hand("all", cdc_statements.BATCH, batch))
    wrong = {
        (job, name): check(lake, stream, name, f"{database}.duckdb", count * rows)
        for name, database in ((NAMES[STATE], "insights"), ("by hand, staged", "all"))
    }
    return [summary(count * rows, *of, runs, wrong) for of, runs in done.items()]


# --- peers ----------------------------------------------------------------------------------------


def install(peers: Sequence[str]) -> None:
    """Add the peers to the environment of the benchmarks."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        venv.create(ENVIRONMENT, with_pip=True)
    for peer in peers:
        marker = ENVIRONMENT / f"cdc-{'-'.join(PEERS[peer])}"
        if not marker.exists():
            print(f"installing {', '.join(PEERS[peer])} into {ENVIRONMENT.name}/", flush=True)
            pip: common.Command = [python, "-m", "pip", "install", "--quiet", *PEERS[peer]]
            subprocess.run(pip, check=True)  # noqa: S603 - our own command
            marker.touch()


def run_peer(peer: str, bronze: Path, result: Path, scratch: Path) -> Took:
    """Run a peer's script, which prints the seconds of its work."""
    script = common.BENCH / "peers" / f"cdc_{peer}.py"
    done = common.run([ENVIRONMENT / "bin" / "python", script, bronze, result], scratch)
    return Took(float(done.output.split()[-1]), None, done.seconds)


# --- what is promised -----------------------------------------------------------------------------


def targets(results: Sequence[Mapping[str, Any]]) -> list[tuple[str, float, float]]:
    """Return what is promised: its name, the most it may be, and what was measured."""

    def of(job: str, name: str, events: int) -> float:
        (found,) = (
            result["median_seconds"]
            for result in results
            if (result["job"], result["contestant"], result["events"]) == (job, name, events)
        )
        return float(found)

    known = {(r["job"], r["contestant"], r["events"]) for r in results}
    sizes = sorted({result["events"] for result in results if result["job"] == "tail"})
    lines: list[tuple[str, float, float]] = []
    for size in sizes:
        state = of("full load", NAMES[STATE], size)
        best = min(of("full load", name, size) for name in HAND)
        plain = of("full load", NAMES[PLAIN], size)
        history = of("full load", NAMES[HISTORY], size)
        tail = of("tail", NAMES[STATE], size)
        lines += [
            (f"full load, {size:,}: ours / better by hand", 1.2, state / best),
            (f"full load, {size:,}: ours / plain dbt", 0.2, state / plain),
            *(
                (f"full load, {size:,}: ours / {p}", most, state / of("full load", p, size))
                for p, most in {"polars": 1.0, "spark": 0.2}.items()
                if ("full load", p, size) in known
            ),
            (f"full load, {size:,}: history / current", 2.5, history / state),
            (f"tail on {size:,}: seconds", 1.5, tail),
        ]
    if len(sizes) > 1:
        first, *_, last = (of("tail", NAMES[STATE], size) for size in sizes)
        lines.append((f"tail on {sizes[-1]:,} / on {sizes[0]:,}", 1.3, last / first))
    small = [result for result in results if "batches" in result["job"]]
    if small:
        ours, hand = (result["seconds"] for result in small)
        lines += [
            ("small batches: slowest / median", 3, max(ours) / statistics.median(ours)),
            ("small batches: ours / by hand", 1.5, sum(ours) / sum(hand)),
        ]
    return lines


def as_row(result: Mapping[str, Any]) -> list[object]:
    """Return what is printed of a result."""
    found = (result[f"median_{k}"] for k in ("seconds", "cpu_seconds", "whole_seconds"))
    times = ("" if seconds is None else f"{seconds:.2f}" for seconds in found)
    place = f"{result['events']:,} {result['job']}: {result['contestant']}"
    differ = result["differ"]
    return [place, *times, f"{max(result['seconds']):.2f}", "" if differ is None else differ]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000, 5_000_000])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--no-small-batches", action="store_true")
    parser.add_argument("--peers", nargs="*", choices=PEERS, help="none named: all of them")
    options = parser.parse_args()
    peers = [] if options.peers is None else options.peers or list(PEERS)
    before = common.machine()
    versions = {name: version(name) for name in ("dbt-core", "dbt-duckdb", "duckdb", "deltalake")}
    install(peers)
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for events in options.events:
            results += load_and_tail(events, options.runs, scratch / str(events), peers)
        if not options.no_small_batches:
            results += small_batches(scratch)
    head = ("events and job: contestant", "s", "cpu s", "whole s", "max s", "differ")
    common.print_table(head, [as_row(result) for result in results])
    found = targets(results)
    common.print_table(
        ("target", "at most", "is"), [(n, f"{most:.2f}", f"{is_:.2f}") for n, most, is_ in found]
    )
    common.finish(
        "cdc",
        before | versions | dict(p.split("==") for peer in peers for p in PEERS[peer]),
        {"runs": options.runs, "results": results, "targets": found},
    )


if __name__ == "__main__":
    main()
