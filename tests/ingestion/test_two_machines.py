"""Two machines, each with a ledger of its own, that land one feed of files at the same moment."""

import random
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from ingestion_helpers import (
    CRASH_STEP,
    NOW,
    assert_exactly_once,
    before_line,
    code_of,
    crash_before_line,
    file_feed,
    quarantine_rows,
)
from test_files_exactly_once import PROTOCOL, source_with_state, write

from ingestion.bronze import LEDGER, BatchResult, Tables
from ingestion.errors import ConflictError
from ingestion.records import Reject, reject_rows

# Of the protocol; there are some more.
LINES = 140
SEEDS = range(60 if CRASH_STEP == 1 else 10)


class Machine:
    """One that lands files of 3 records each, of which one is rejected."""

    def __init__(self, lakehouse: Path, landing: Path, state: Path, key: str = "id") -> None:
        self._lakehouse, self._state = lakehouse, state
        self._feed = file_feed(landing, batch_files=2, key=(key,))

    def land(self) -> list[BatchResult]:
        source = source_with_state(self._feed, self._state)
        return list(source.land(Tables(self._lakehouse, "visits", lambda: NOW)))


def write_files(landing: Path) -> int:
    """Write the files; return the number of their records."""
    for number in range(3):
        lines = (f'{{"id":{number}}}', "broken", f'{{"id":{number},"other":1}}')
        write(landing, f"{number}.ndjson", *lines, age=100 - number)
    return 9


@contextmanager
def meanwhile(number: int, action: Callable[[], object]) -> Iterator[list[int]]:
    """Let something else be done, in a thread, before the `number`-th line of the protocol."""
    with (
        ThreadPoolExecutor(1) as pool,
        # No trace of its own would be followed within that of this thread.
        before_line(number, PROTOCOL, lambda: pool.submit(action).result()) as reached,
    ):
        yield reached


@pytest.mark.parametrize("other", ["lands all", "has another key"])
def test_what_another_machine_lands_before_any_line_is_not_lost_or_repeated(
    tmp_path: Path, landing: Path, other: str
) -> None:
    records, number = write_files(landing), 0
    while True:
        number += CRASH_STEP
        here = tmp_path / str(number)
        one = Machine(here, landing, here / "one")
        two = Machine(here, landing, here / "two", "other" if other == "has another key" else "id")
        with meanwhile(number, two.land) as reached:
            one.land()
        assert_exactly_once(here, "visits", records)
        if not reached:
            break
    assert number > LINES  # the protocol was really walked through


@pytest.mark.parametrize("seed", SEEDS)
def test_a_machine_that_ends_before_any_line_is_taken_over_by_another(
    tmp_path: Path, landing: Path, seed: int
) -> None:
    """One is held up somewhere; the other ends somewhere, and begins again; so does the first."""
    records, chance = write_files(landing), random.Random(seed)
    one = Machine(tmp_path, landing, tmp_path / "one")
    two = Machine(tmp_path, landing, tmp_path / "two", chance.choice(["id", "other"]))

    def end_somewhere() -> None:
        with crash_before_line(chance.randint(1, LINES), PROTOCOL):
            two.land()

    with meanwhile(chance.randint(1, LINES), end_somewhere):
        one.land()
    two.land()
    one.land()
    assert_exactly_once(tmp_path, "visits", records)


class Steps:
    """Lets one of several threads go on at a time, and another one now and then."""

    def __init__(self, seed: int, names: list[str]) -> None:
        self._chance, self._running = random.Random(seed), list(names)
        self._turn, self._may_go = names[0], threading.Condition()
        self._codes = {code_of(function) for function in PROTOCOL}

    def step(self) -> None:
        """Hand over, perhaps, and wait until it is this thread's turn again."""
        me = threading.current_thread().name
        with self._may_go:
            if self._turn == me and self._chance.random() < 0.15:
                self._turn = self._chance.choice(self._running)
                self._may_go.notify_all()
            assert self._may_go.wait_for(lambda: self._turn == me, timeout=60)

    def run(self, machine: Machine, failures: list[BaseException]) -> None:
        """Land in steps; who loses too often begins again."""

        def on_line(frame: FrameType, event: str, argument: Any) -> Any:
            if event == "line":
                self.step()
            return on_line

        sys.settrace(lambda frame, *_: on_line if frame.f_code in self._codes else None)
        try:
            while True:
                try:
                    machine.land()
                except ConflictError:
                    continue
                break
        except BaseException as failure:
            failures.append(failure)
        finally:
            sys.settrace(None)
            with self._may_go:
                self._running.remove(threading.current_thread().name)
                if self._running:
                    self._turn = self._running[0]
                self._may_go.notify_all()


@pytest.mark.parametrize("seed", SEEDS)
def test_machines_that_land_at_the_same_moment_lose_and_repeat_nothing(
    tmp_path: Path, landing: Path, seed: int
) -> None:
    records, failures = write_files(landing), list[BaseException]()
    names = ["one", "two", "three"][: 2 + seed % 2]
    steps = Steps(seed, names)
    keys = ["id", "other"] if seed % 3 == 0 else ["id"]
    threads = [
        threading.Thread(
            target=steps.run,
            name=name,
            args=(Machine(tmp_path, landing, tmp_path / name, keys[n % len(keys)]), failures),
        )
        for n, name in enumerate(names)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert_exactly_once(tmp_path, "visits", records)


@pytest.mark.parametrize("has_seen_it", [False, True])
def test_a_machine_that_was_taken_over_commits_nothing_more(
    tmp_path: Path, has_seen_it: bool
) -> None:
    one, two = (Tables(tmp_path, "visits", lambda: NOW) for _ in range(2))
    one.claim(1, 1)
    rejects = reject_rows([Reject("a", 0, 1, None, "broken", [], None, "not valid JSON")])
    one.quarantine.append([rejects], "visits", 1, {LEDGER: 1}, NOW)
    two.refresh()
    two.claim(2, 2)
    if has_seen_it:
        one.refresh()
    with pytest.raises(ConflictError):
        one.bronze.append([], 1, {LEDGER: 1}, NOW)
    with pytest.raises(ConflictError):
        one.quarantine.append([rejects], "visits", 1, {LEDGER: 1}, NOW)
    with pytest.raises(ConflictError):
        one.quarantine.withdraw("visits", 1, 1)
    one.refresh()
    with pytest.raises(ConflictError, match="another machine has claimed feed visits"):
        one.claim(1, 1)
    assert len(quarantine_rows(tmp_path)) == 1


def test_a_plan_is_not_landed_over_what_another_machine_landed_since(
    tmp_path: Path, landing: Path
) -> None:
    write_files(landing)
    tables = Tables(tmp_path, "visits", lambda: NOW)
    source = source_with_state(file_feed(landing), tmp_path / "one")
    with source._turn(tables) as ledger:
        Machine(tmp_path, landing, tmp_path / "two").land()
        tables.refresh()
        ledger.take_over("visits", 2**60, None)  # higher than the other's
        with pytest.raises(ConflictError, match="another machine has claimed the feed"):
            source._claim(ledger, tables.bronze.batch_id + 1, tables)


def test_a_feed_whose_rejects_have_a_higher_number_is_claimed_under_one_beyond(
    tmp_path: Path, landing: Path
) -> None:
    """Rejects were committed before the feed was claimed once."""
    machine = Machine(tmp_path, landing, tmp_path / "one")
    machine.land()
    records = write_files(landing)
    Tables(tmp_path, "visits", lambda: NOW).quarantine.claim("visits", 2**60)
    assert len(machine.land()) == 2
    assert_exactly_once(tmp_path, "visits", records)
