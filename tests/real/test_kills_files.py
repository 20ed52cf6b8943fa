"""`ingest` killed at random instants while files come: 0 lost, 0 repeated."""

import random
from pathlib import Path

from tests.support.kills import Job, assert_all_landed_once, kill_and_drain, value


def test_kills_over_a_running_stream_of_files_lose_and_repeat_nothing(tmp_path: Path) -> None:
    landing = tmp_path / "landing"
    landing.mkdir()
    numbers = iter(range(1, 10**9))

    def send(chance: random.Random) -> list[int]:
        now = [next(numbers) for _ in range(chance.randint(1, 12))]
        unfinished = landing / "next.tmp"
        unfinished.write_bytes(b"".join(value(n) + b"\n" for n in now))
        unfinished.rename(landing / f"{now[0]}.ndjson")
        return now

    first = send(random.Random(3))
    job = Job(tmp_path, "files", {"path": str(landing)}, {})
    assert_all_landed_once(job, first + kill_and_drain(job, send))
