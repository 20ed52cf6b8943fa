"""What a core of Spark lands: rows per second of its time, from Kafka and from NDJSON files.

    make bench-ingest_spark
    make bench-ingest_spark ARGS="--rows 200000 --runs 1"

Spark runs here, on two cores, beside Kafka. A run is a stream that lands all there is in new tables
(`ingest run --once --engine spark`); for `start` it finds nothing new. Time is also counted as the
processor's, of Spark and its Python workers, which other load disturbs less: rows per core and
second is rows by that. The first run, which warms Java, does not count.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from bench import common, kafka
from ingestion import spark as engine
from ingestion.config import Feed, FileOptions, KafkaOptions
from tests.support.apache_spark import apache_spark

TOPIC = "events"
PARTITIONS = 4
FILES = 8
# What a long life and large data pay for: the compilers and the collector that Java has by itself.
JAVA_OPTIONS: tuple[str, ...] = ()
SETTINGS = {
    "spark.sql.adaptive.enabled": "true",
    "spark.sql.codegen.wholeStage": "true",
    "spark.sql.codegen.factoryMode": "FALLBACK",
}
_TICKS = os.sysconf("SC_CLK_TCK")


class Spent(NamedTuple):
    """What a run took: seconds, and of them those of a processor."""

    seconds: float
    cpu_seconds: float


def _children() -> dict[int, list[int]]:
    listed = subprocess.run(
        ["ps", "-eo", "pid=,ppid="],  # noqa: S607 - wherever it is
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[int, list[int]] = {}
    for line in listed.stdout.splitlines():
        pid, parent = map(int, line.split())
        found.setdefault(parent, []).append(pid)
    return found


def _descendants(pid: int, children: dict[int, list[int]]) -> Iterator[int]:
    for child in children.get(pid, ()):
        yield child
        yield from _descendants(child, children)


def spark_process() -> int:
    """Return Spark's process, which this one has started."""
    for pid in _children()[os.getpid()]:
        with suppress(FileNotFoundError):  # it has ended
            if b"SparkConnectServer" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    raise RuntimeError("Spark does not run")


def cpu_seconds(spark: int) -> float:
    """Return the processor's seconds of Spark so far, with those of workers that have ended."""
    ticks = 0
    for pid in (spark, *_descendants(spark, _children())):
        with suppress(FileNotFoundError):  # it has ended, and counts as its parent's
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS


def land(feed: Feed, lakehouse: Path, spark: Any) -> tuple[Spent, int]:
    """Land what there is; return what it took, and the rows."""
    process = spark_process()
    began, before = time.perf_counter(), cpu_seconds(process)
    (result,) = engine.run_once([feed], [feed.name], lakehouse, spark)
    spent = Spent(time.perf_counter() - began, cpu_seconds(process) - before)
    if result.error:
        raise RuntimeError(result.error)
    return spent, result.landed


def measure(feed: Feed, wanted: int, runs: int, scratch: Path, spark: Any) -> dict[str, Any]:
    """Land all of a feed several times, and nothing as often."""
    done, starts = [], []
    for run in range(runs + 1):
        lakehouse = scratch / "lakehouse"
        shutil.rmtree(lakehouse, ignore_errors=True)
        spent, landed = land(feed, lakehouse, spark)
        common.expect(landed, wanted, feed.name)
        idle, landed = land(feed, lakehouse, spark)
        common.expect(landed, 0, feed.name)
        if run:
            done.append(spent)
            starts.append(idle)
    seconds, cpu = (statistics.median(each) for each in zip(*done, strict=True))
    start, start_cpu = (statistics.median(each) for each in zip(*starts, strict=True))
    return {
        "feed": feed.name,
        "rows": wanted,
        "median_seconds": seconds,
        "median_cpu_seconds": cpu,
        "start_seconds": start,
        "start_cpu_seconds": start_cpu,
        "rows_per_second": wanted / (seconds - start),
        "rows_per_core_and_second": wanted / (cpu - start_cpu),
        "runs": [spent._asdict() for spent in done],
    }


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    before, wanted = common.machine(), options.rows
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        common.write_files(scratch / "files", "ndjson", wanted, -(-wanted // FILES))
        source = FileOptions(scratch / "files", glob="*.ndjson")
        files = Feed("ndjson_files", "ndjson", source, ("transaction_id",))
        with (
            kafka.broker(scratch) as address,
            apache_spark(scratch, SETTINGS, JAVA_OPTIONS) as spark_address,
        ):
            from pyspark.sql import SparkSession  # noqa: PLC0415 - seconds

            kafka.create(address, TOPIC, PARTITIONS)
            kafka.fill(address, TOPIC, common.messages(wanted), PARTITIONS)
            topic = KafkaOptions((TOPIC,), {"bootstrap.servers": address})
            messages = Feed("messages", "json", topic)
            spark = SparkSession.builder.remote(spark_address).getOrCreate()
            results = [
                measure(feed, wanted, options.runs, scratch, spark) for feed in (messages, files)
            ]
    common.print_table(
        ("feed", "rows", "s", "start s", "cpu s", "rows/s", "rows/core/s"),
        [
            (
                *(r["feed"], r["rows"], f"{r['median_seconds']:.1f}"),
                *(f"{r['start_seconds']:.1f}", f"{r['median_cpu_seconds']:.1f}"),
                *(round(r["rows_per_second"]), round(r["rows_per_core_and_second"])),
            )
            for r in results
        ],
    )
    common.finish("ingest_spark", before, {"runs": options.runs, "results": results})


if __name__ == "__main__":
    main()
