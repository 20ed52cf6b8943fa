"""Kill `ingest` (SIGKILL) at random instants over a running stream, and see what it landed."""

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.ingestion.ingestion_helpers import (
    assert_exactly_once,
    bronze_rows,
    quarantine_rows,
)
from tests.support.ingest import INGEST

# For Kafka and for files each.
KILLS = 100 if os.environ.get("REQUIRE_ALL") == "1" else 20
MODES = ("--once", "--continuous")
# Every other kill comes so long, at most, after a run has begun to write.
WORK_SECONDS = 0.25
# Small batches: a run commits every few tens of milliseconds, so that kills fall everywhere.
SMALL = {"kafka": {"batch_rows": 10}, "files": {"batch_files": 2}}
LARGE = {"kafka": {"batch_rows": 50_000}, "files": {"batch_files": 1_000}}

# One turn of the stream: what it sent, as numbers.
Send = Callable[[random.Random], list[int]]


def value(number: int) -> bytes:
    """An object with this number; every seventh is cut off and belongs in quarantine."""
    return b'{"n":%d}' % number if number % 7 else b'{"n":%d' % number


def number(row: Mapping[str, Any]) -> int:
    return int(row["value"].removeprefix('{"n":').removesuffix("}"))


class Job:
    """The `ingest` command over one feed named `events`."""

    def __init__(self, folder: Path, kind: str, source: Mapping[str, Any], extra: Any) -> None:
        self.lakehouse = folder / "lakehouse"
        self._error = folder / "stderr"
        self._files = {}
        for name, sizes in (("small", SMALL), ("large", LARGE)):
            feed = {
                kind: {**source, **sizes[kind]},
                "format": "json" if kind == "kafka" else "ndjson",
            }
            self._files[name] = folder / f"{name}.yml"
            self._files[name].write_text(yaml.safe_dump({"feeds": {"events": feed}, **extra}))

    def run(self, mode: str, batches: str) -> None:
        """Run to the end."""
        with self._started(mode, batches) as process:
            process.wait(timeout=120)

    def run_and_kill(self, mode: str, seconds: float, *, after_writing: bool) -> bool:
        """Kill a run so long after its start, or after it has begun to write, if it still runs."""
        before = self._written()
        with self._started(mode, "small") as process:
            if after_writing:
                while not _ended(process, 0.001) and self._written() == before:
                    pass
            if _ended(process, seconds):
                return False
            process.kill()
            process.wait()
            return True

    @contextmanager
    def _started(self, mode: str, batches: str) -> Iterator[subprocess.Popen[bytes]]:
        """A running process; it fails the test if it ends with an error by itself."""
        command = [INGEST, "run", mode, "--feeds", self._files[batches]]
        with self._error.open("w+") as error:
            process = subprocess.Popen(
                [*command, "--lakehouse", self.lakehouse],
                stdout=subprocess.DEVNULL,
                stderr=error,
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()
            error.seek(0)
            assert process.returncode in (0, -signal.SIGKILL), error.read()

    def _written(self) -> int:
        """How many data files there are, committed or not."""
        folders = (self.lakehouse / "bronze" / "events", self.lakehouse / "quarantine")
        return sum(len(list(folder.glob("*.parquet"))) for folder in folders)

    def commits(self) -> int:
        """How many commits the bronze table has."""
        return len(list((self.lakehouse / "bronze" / "events" / "_delta_log").glob("*.json")))


def _ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether a process ends within this time."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


@contextmanager
def stream(send: Send) -> Iterator[list[int]]:
    """Keep sending in the background; yields the list of what was sent."""
    sent: list[int] = []
    over = threading.Event()
    chance = random.Random(11)

    def feed() -> None:
        while not over.wait(0.03):
            sent.extend(send(chance))

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield sent
    finally:
        over.set()
        thread.join()


def kill_and_drain(job: Job, send: Send) -> list[int]:
    """Kill the job again and again while records come, then let it land the rest."""
    chance = random.Random(7)
    job.run("--once", "small")
    started = time.monotonic()
    job.run("--once", "small")
    start_seconds = time.monotonic() - started
    kills = runs = working = 0
    with stream(send) as sent:
        while kills < KILLS:
            assert runs < 3 * KILLS, f"{kills} of {runs} runs were killed: the stream is too thin"
            before = job.commits()
            writing = runs % 2 == 0
            seconds = chance.uniform(0, WORK_SECONDS if writing else 1.2 * start_seconds)
            mode = MODES[runs // 2 % len(MODES)]
            kills += job.run_and_kill(mode, seconds, after_writing=writing)
            runs += 1
            working += job.commits() > before
    # Many kills fell between the first and the last commit of a run, not before the first.
    assert working > KILLS // 4
    job.run("--once", "large")
    return sent


def assert_all_landed_once(job: Job, sent: list[int]) -> None:
    assert_exactly_once(job.lakehouse, "events", len(sent))
    landed = [number(row) for row in bronze_rows(job.lakehouse, "events")]
    rejected = [number(row) for row in quarantine_rows(job.lakehouse)]
    assert sorted(landed) == sorted(n for n in sent if n % 7)
    assert sorted(rejected) == sorted(n for n in sent if not n % 7)
