"""How soon a record is visible: from the broker's acknowledgement to the commit in bronze.

    make bench-ingest_latency
    make bench-ingest_latency ARGS="--commits 10000"

`ingest run --continuous --trigger-seconds 0.1` on Apache Kafka. Batches of 10 records are produced
one after another at random instants; a batch is visible when the commits in the table's
`_delta_log` hold all of it. Measured on a fresh table, and again when the table has had 1,000 (and
as many as are asked for) commits, of which the job makes the last 100 as fast as it can, in the
same mode, and its writer the others. The target is 200 ms.
"""

import argparse
import json
import random
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from confluent_kafka import Producer
from deltalake import DeltaTable

from bench import common, kafka
from ingestion.bronze import Bronze
from ingestion.maintenance import COMMITS_PER_COMPACTION
from ingestion.records import ROW_SCHEMA

TOPIC = "events"
PARTITIONS = 3
BATCH = 10
TRIGGER_SECONDS = "0.1"
STAGES = (0, 1_000)
PATIENCE_SECONDS = 60
# So many of the commits before a measurement are the job's own.
THROUGH_KAFKA = 100


class Commits:
    """The commits of a Delta table as they become visible."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.rows = self.version = 0

    def wait_for(self, rows: int) -> None:
        """Return when there are so many rows; raise TimeoutError when nothing comes."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.rows < rows:
            try:
                content = (self._log / f"{self.version:020}.json").read_bytes()
            except FileNotFoundError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{self.rows} of {rows} rows came") from None
                time.sleep(0.0005)  # a spinning watcher would take a core from the job
                continue
            self.version += 1
            deadline = time.monotonic() + PATIENCE_SECONDS
            for line in content.splitlines():
                added = json.loads(line).get("add")
                # Compaction adds files too, of rows that were there before.
                if added and added["dataChange"]:
                    self.rows += json.loads(added["stats"])["numRecords"]


class Bench:
    """The job, what is produced for it, and what has become visible."""

    def __init__(self, folder: Path, address: str) -> None:
        self._job = common.Job(folder / "job", common.kafka_feed(TOPIC), address)
        self._errors = folder / "job.log"
        self._address = address
        self._messages = common.messages(10**9)
        self._producer = Producer({"bootstrap.servers": address, "linger.ms": 0, "log_level": 0})
        self._chance = random.Random(3)  # noqa: S311 - instants
        self.commits = Commits(self._job.log)
        self._sent = 0

    @contextmanager
    def _running(self) -> Iterator[None]:
        command = self._job.command("--continuous", "--trigger-seconds", TRIGGER_SECONDS)
        with self._errors.open("wb") as errors:
            process = subprocess.Popen(  # noqa: S603 - our own command
                command, stdout=subprocess.DEVNULL, stderr=errors
            )
            try:
                yield
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=PATIENCE_SECONDS)
        if process.returncode:
            said = self._errors.read_text()[-2000:]
            raise RuntimeError(f"ended with {process.returncode}: {said}")

    def _send(self) -> None:
        """Produce a batch; return when the broker has it."""
        for number, message in enumerate(islice(self._messages, BATCH)):
            self._producer.produce(TOPIC, message, partition=number % PARTITIONS)
        if self._producer.flush(10):
            raise RuntimeError("the broker does not take the messages")
        self._sent += BATCH

    def make_commits(self, version: int) -> None:
        """Commit 10 records at a time, until the table has this version.

        The first as the job commits them, but not through Kafka: that takes a third of the time.
        """
        table = Bronze(self._job.lakehouse, "events")
        while self.commits.version < version - THROUGH_KAFKA:
            rows = pa.RecordBatch.from_pylist(
                [{"source": "made", "position": self._sent + n} for n in range(BATCH)], ROW_SCHEMA
            )
            table.append([rows], table.batch_id + 1, {}, datetime.now(UTC))
            self._sent += BATCH
            self.commits.wait_for(self._sent)
            if self.commits.version % COMMITS_PER_COMPACTION == 0:
                DeltaTable(table.path).optimize.compact()
                table.refresh()
        if self.commits.version >= version:
            return
        self._job.set_feed(common.kafka_feed(TOPIC, batch_rows=BATCH))
        with self._running():
            while (missing := version - self.commits.version) > 0:
                for _ in range(min(missing, 100)):
                    self._send()
                self.commits.wait_for(self._sent)

    def measure(self, batches: int) -> list[float]:
        """Return the seconds that each batch took to be visible."""
        self._job.set_feed(common.kafka_feed(TOPIC))
        seconds = []
        with self._running():
            for number in range(batches + 1):
                self._send()
                acknowledged = time.perf_counter()
                self.commits.wait_for(self._sent)
                if number:  # the first waits for the job to begin
                    seconds.append(time.perf_counter() - acknowledged)
                time.sleep(self._chance.uniform(0, 2 * float(TRIGGER_SECONDS)))
        return seconds


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--commits", type=int, help="also when the table has had so many")
    parser.add_argument("--batches", type=int, default=200, help="how many are measured each time")
    options = parser.parse_args()
    before = common.machine()
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name, kafka.broker(Path(name)) as address:
        kafka.create(address, TOPIC, PARTITIONS)
        bench = Bench(Path(name), address)
        for stage in (*STAGES, *([options.commits] if options.commits else [])):
            bench.make_commits(stage)
            at = bench.commits.version
            seconds = sorted(bench.measure(options.batches))
            results.append(
                {
                    "commits": at,
                    "batches": len(seconds),
                    "median_seconds": statistics.median(seconds),
                }
                | {"p95_seconds": seconds[round(0.95 * (len(seconds) - 1))]}
                | {"max_seconds": seconds[-1], "seconds": seconds}
            )
    head = ("commits before", "batches", "median ms", "p95 ms", "max ms")
    keys = ("median_seconds", "p95_seconds", "max_seconds")
    common.print_table(
        head, [[r["commits"], r["batches"], *(round(1000 * r[k]) for k in keys)] for r in results]
    )
    common.finish("ingest_latency", before, {"trigger_seconds": 0.1, "results": results})


if __name__ == "__main__":
    main()
