"""What goes wrong on the way: late, repeated, disordered and malformed records.

The bank's own history is left as it is; only its copies and their arrival suffer. Whatever is
malformed is an extra, spoiled copy of a good record, so no truth is lost by it.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, cycle

from ingestion.simulate.draws import Draw
from ingestion.simulate.records import (
    DAY_US,
    FEEDS,
    HOUR_US,
    MINUTE_US,
    TOMBSTONE,
    TOPICS,
    VENDORS,
    Record,
    moved,
)


@dataclass(frozen=True)
class Imperfections:
    """Shares of the records that suffer; a record suffers at most one of them.

    `late` arrives 3 hours to 10 days after it happened (a vendor's row at least one file later);
    `out_of_order` is overtaken by the next 1 to `window` records of its feed, or by the next one
    of its own key (it waits two hours at most); a `duplicate` is the same record again, at
    once or up to 3 days later; `malformed` and `malformed_rows` (in vendors' files) are extra
    spoiled copies, of every 500th record of a topic and of every 100th row of a vendor.
    `cut_off_file` adds one file that is a copy of another and ends in the middle.
    """

    late: float = 0.02
    out_of_order: float = 0.05
    duplicates: float = 0.03
    malformed: float = 0.002
    malformed_rows: float = 0.01
    window: int = 12
    cut_off_file: bool = True


NONE = Imperfections(0.0, 0.0, 0.0, 0.0, 0.0, 1, cut_off_file=False)
"""Everything arrives as it happened."""

LATE, OUT_OF_ORDER, DUPLICATE, MALFORMED = "late", "out_of_order", "duplicate", "malformed"
_MIN_LATE_US, _MAX_LATE_US = 3 * HOUR_US, 10 * DAY_US
_MAX_WAIT_US = 2 * HOUR_US
_MAX_DUPLICATE_US = 3 * DAY_US

Spoil = Callable[[Record, str, float], str | bytes]
"""Spoils a record's text; the number in [0, 1) chooses where."""


def disturb(
    batches: Iterable[list[Record]], imperfections: Imperfections, draw: Draw
) -> Iterator[list[Record]]:
    """The records in the order in which they arrive, with everything that went wrong."""
    disturbance = _Disturbance(imperfections, draw)
    yield from map(disturbance.pass_on, batches)
    yield disturbance.due(sys.maxsize)


_Held = list[Record]
"""A record that was kept back, and its tombstone if it is a delete; emptied when it is let go."""


class _Disturbance:
    def __init__(self, imperfections: Imperfections, draw: Draw) -> None:
        self._settings = imperfections
        self._draw = draw
        self._serial = count()
        # what arrives at a later time; the serial number keeps equal times in order
        self._later: list[tuple[int, int, _Held]] = []
        # of that, what comes earlier: once so many records of its feed have passed (the number of
        # the last one), or the next one of its own key
        self._passed = dict.fromkeys(FEEDS, 0)
        self._until_passed: dict[str, dict[int, list[_Held]]] = {feed: {} for feed in FEEDS}
        self._until_key: dict[str, dict[str | None, _Held]] = {feed: {} for feed in FEEDS}
        self._spoilers = {feed: cycle(kinds) for feed, kinds in _kinds_by_feed().items()}
        shares = {
            feed: imperfections.malformed_rows if feed in VENDORS else imperfections.malformed
            for feed in FEEDS
        }
        # evenly, not by chance, so that a small bank has every kind too
        self._spoil_every = {
            feed: round(1 / share) if share else sys.maxsize for feed, share in shares.items()
        }
        self._spoil_at = {feed: max(1, every // 2) for feed, every in self._spoil_every.items()}

    def pass_on(self, records: list[Record]) -> list[Record]:
        """What arrives up to the last of these records; a delete's tombstone is among them too."""
        settings, draw, later, passed = self._settings, self._draw, self._later, self._passed
        until_passed, until_key, spoil_at = self._until_passed, self._until_key, self._spoil_at
        disordered = settings.late + settings.out_of_order
        repeated = disordered + settings.duplicates
        held: _Held | None = None
        arriving: list[Record] = []
        for record in records:
            # all at once: each access by name costs a third of it
            feed, key, _, _, _, arrival_us, op, _, _ = record
            if later and later[0][0] <= arrival_us:
                arriving += self.due(arrival_us)
            if op == TOMBSTONE:
                # it comes right after its delete, however that travels
                if held:
                    held.append(moved(record, held[0].arrival_us, held[0].flaw))
                else:
                    arriving.append(record)
                continue
            fate = draw()
            if fate < disordered:
                held = self._hold(record, fate)
                continue
            held = None
            arriving.append(record)
            if fate < repeated:
                arriving += self._repeat(record)
            passed[feed] = number = passed[feed] + 1
            if number == spoil_at[feed]:
                spoil_at[feed] += self._spoil_every[feed]
                arriving.append(self._spoiled(record))
            if number in until_passed[feed]:
                for overtaken in until_passed[feed].pop(number):
                    arriving += _let_go(overtaken, arrival_us)
            if key in until_key[feed]:
                arriving += _let_go(until_key[feed].pop(key), arrival_us)
        return arriving

    def due(self, now_us: int) -> list[Record]:
        """What was kept back, as far as it is due by a time."""
        arriving: list[Record] = []
        while self._later and self._later[0][0] <= now_us:
            at_us, _, held = heapq.heappop(self._later)
            if held:
                by_key = self._until_key[held[0].feed]
                if by_key.get(held[0].key) is held:
                    del by_key[held[0].key]
                arriving += _let_go(held, at_us)
        return arriving

    def _hold(self, record: Record, fate: float) -> _Held:
        """Keep a record back: it is late, or others overtake it."""
        if fate < self._settings.late:
            return self._delay(record, LATE, self._lateness(record))
        held = self._delay(record, OUT_OF_ORDER, _MAX_WAIT_US)
        feed, key = record.feed, record.key
        may_wait = record.op not in ("", "d") and key not in self._until_key[feed]
        if may_wait and self._draw() < 0.5:
            self._until_key[feed][key] = held
        else:
            number = self._passed[feed] + 1 + int(self._draw() * self._settings.window)
            self._until_passed[feed].setdefault(number, []).append(held)
        return held

    def _lateness(self, record: Record) -> int:
        least = _MIN_LATE_US
        if record.feed in VENDORS:
            least = VENDORS[record.feed].every_days * DAY_US
        return least + int(self._draw() ** 2 * (_MAX_LATE_US - least))

    def _delay(self, record: Record, flaw: str, wait_us: int) -> _Held:
        at_us = record.arrival_us + wait_us
        held = [moved(record, at_us, flaw)]
        heapq.heappush(self._later, (at_us, next(self._serial), held))
        return held

    def _repeat(self, record: Record) -> list[Record]:
        """The record again, at once or later."""
        if self._draw() < 0.5:
            return [moved(record, record.arrival_us, DUPLICATE)]
        self._delay(record, DUPLICATE, MINUTE_US + int(self._draw() ** 2 * _MAX_DUPLICATE_US))
        return []

    def _spoiled(self, record: Record) -> Record:
        kind, spoil = next(self._spoilers[record.feed])
        text = record.value
        if not isinstance(text, str):
            raise TypeError("only text can be spoiled")
        value = spoil(record, text, self._draw())
        return record._replace(value=value, flaw=f"{MALFORMED}:{kind}")


def _let_go(held: _Held, now_us: int) -> list[Record]:
    """What was held, if it has not gone yet."""
    gone = [moved(record, now_us, record.flaw) for record in held]
    held.clear()
    return gone


# ---- how to spoil: topics ---------------------------------------------------------------------


def _cut_off(_record: Record, text: str, where: float) -> str:
    return text[: int(len(text) * (0.3 + 0.6 * where))]


def _not_json(_record: Record, text: str, _where: float) -> str:
    return f"ERROR upstream timed out after 30000 ms, {len(text)} bytes dropped"


def _not_utf8(_record: Record, text: str, where: float) -> bytes:
    middle = int(len(text) * where)
    return text[:middle].encode() + b"\xff\xfe" + text[middle:].encode()


def _unknown_op(record: Record, text: str, _where: float) -> str:
    return text.replace(f'"op":"{record.op}"', '"op":"x"')


def _missing_key(record: Record, text: str, _where: float) -> str:
    """Take the key column out of the image (of a flat record: its id)."""
    if record.key is None:
        name = "event_id" if record.feed == "clickstream" else "customer_id"
        return _without_field(text, name)
    name = record.key.split('"')[1]
    image = '"before":{' if record.op == "d" else '"after":{'
    # with a schema, the words also occur before the payload
    start = text.rindex(image) + len(image) - 1
    end = text.index("}", start) + 1
    return text[:start] + _without_field(text[start:end], name) + text[end:]


def _without_field(flat_object: str, name: str) -> str:
    """A flat JSON object's text without one of its fields."""
    start = flat_object.index(f'"{name}":')
    comma = flat_object.find(",", start)
    if comma >= 0:
        return flat_object[:start] + flat_object[comma + 1 :]
    return flat_object[: start - 1] + "}"


# ---- how to spoil: rows of files --------------------------------------------------------------


def _delimiter(record: Record) -> str:
    return ";" if VENDORS[record.feed].format == "csv" else "\t"


def _too_few(record: Record, text: str, _where: float) -> str:
    return text.rpartition(_delimiter(record))[0]


def _too_many(record: Record, text: str, _where: float) -> str:
    delimiter = _delimiter(record)
    return text + delimiter + text.rpartition(delimiter)[2]


def _empty_id(record: Record, text: str, _where: float) -> str:
    """The first column, which is the id, without its value."""
    vendor = VENDORS[record.feed]
    if vendor.format in ("csv", "tsv"):
        empty = '""' if vendor.format == "csv" else ""
        return empty + text[text.index(_delimiter(record)) :]
    before, separator, rest = text.partition(":")
    return before + separator + (' ""' if vendor.format == "json" else '""') + _after_first(rest)


def _after_first(rest: str) -> str:
    return rest[rest.index(",") :]


_FLAT: tuple[tuple[str, Spoil], ...] = (
    ("cut_off", _cut_off),
    ("not_json", _not_json),
    ("not_utf8", _not_utf8),
    ("missing_key", _missing_key),
)
_CHANGE: tuple[tuple[str, Spoil], ...] = (*_FLAT, ("unknown_op", _unknown_op))
_DELIMITED: tuple[tuple[str, Spoil], ...] = (
    ("too_few_columns", _too_few),
    ("too_many_columns", _too_many),
    ("empty_id", _empty_id),
)
_LINES: tuple[tuple[str, Spoil], ...] = (("malformed_line", _cut_off), ("empty_id", _empty_id))
# a broken object would break its whole file, good rows included: see `cut_off_file` for that
_OBJECTS: tuple[tuple[str, Spoil], ...] = (("empty_id", _empty_id),)
_ROWS = {"csv": _DELIMITED, "tsv": _DELIMITED, "ndjson": _LINES, "json": _OBJECTS}

CUT_OFF_FILE = f"{MALFORMED}:cut_off_file"
MALFORMED_KINDS = tuple(
    dict.fromkeys(name for kinds in (_CHANGE, _DELIMITED, _LINES) for name, _ in kinds)
)


def _kinds_by_feed() -> dict[str, tuple[tuple[str, Spoil], ...]]:
    flat = ("checking_acct", "clickstream")
    topics = {feed: _FLAT if feed in flat else _CHANGE for feed in TOPICS}
    return topics | {feed: _ROWS[vendor.format] for feed, vendor in VENDORS.items()}
