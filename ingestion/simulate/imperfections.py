"""What goes wrong on the way: late, repeated, disordered and malformed records.

The bank's own history is left as it is; only its copies and their arrival suffer. Whatever is
malformed is an extra, spoiled copy of a good record, so no truth is lost by it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle

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
    records: Iterable[Record], imperfections: Imperfections, draw: Draw
) -> Iterator[Record]:
    """The records in the order in which they arrive, with everything that went wrong."""
    return _Disturbance(imperfections, draw).run(records)


@dataclass(slots=True)
class _Overtaken:
    """A record (and its tombstone) that waits until `remaining` more of its feed have passed."""

    remaining: int
    records: list[Record]


class _Disturbance:
    def __init__(self, imperfections: Imperfections, draw: Draw) -> None:
        self._settings = imperfections
        self._draw = draw
        self._serial = 0
        # what arrives at a later time; the serial number keeps equal times in order
        self._later: list[tuple[int, int, Record]] = []
        # of that, what comes earlier: once enough records of its feed have passed, or the next
        # one of its own key, by feed and key
        self._overtaken: dict[str, list[_Overtaken]] = {feed: [] for feed in FEEDS}
        self._overtaken_by_key: dict[tuple[str, str | None], Record] = {}
        self._spoilers = {feed: cycle(kinds) for feed, kinds in _kinds_by_feed().items()}
        shares = {
            feed: imperfections.malformed_rows if feed in VENDORS else imperfections.malformed
            for feed in FEEDS
        }
        # evenly, not by chance, so that a small bank has every kind too
        self._spoil_every = {feed: round(1 / share) for feed, share in shares.items() if share}
        self._until_spoiled = {feed: every // 2 for feed, every in self._spoil_every.items()}

    def run(self, records: Iterable[Record]) -> Iterator[Record]:
        settings, draw, until_spoiled = self._settings, self._draw, self._until_spoiled
        disordered = settings.late + settings.out_of_order
        repeated = disordered + settings.duplicates
        held_delete: Record | None = None
        for record in records:
            feed = record.feed
            if self._later and self._later[0][0] <= record.arrival_us:
                yield from self._due(record.arrival_us)
            if record.op == TOMBSTONE:
                if held_delete is None:
                    yield record
                else:
                    self._follow(held_delete, record)
                continue
            fate = draw()
            if fate < disordered:
                held = self._hold(record, fate)
                held_delete = held if record.op == "d" else None
                continue
            held_delete = None
            yield record
            if fate < repeated:
                yield from self._repeat(record)
            if feed in until_spoiled:
                until_spoiled[feed] -= 1
                if until_spoiled[feed] <= 0:
                    until_spoiled[feed] = self._spoil_every[feed]
                    yield self._spoiled(record)
            if self._overtaken[feed]:
                yield from self._overtake(record)
            if self._overtaken_by_key and (feed, record.key) in self._overtaken_by_key:
                overtaken = self._overtaken_by_key.pop((feed, record.key))
                yield overtaken._replace(arrival_us=record.arrival_us)
        yield from self._due(None)

    def _due(self, now_us: int | None) -> Iterator[Record]:
        """What is due by a time, or all of it."""
        while self._later and (now_us is None or self._later[0][0] <= now_us):
            record = heapq.heappop(self._later)[2]
            if record.flaw == OUT_OF_ORDER:
                yield from self._still_waiting(record)
            else:
                yield record

    def _still_waiting(self, record: Record) -> Iterator[Record]:
        """A record whose waiting time is over, unless it has been overtaken already."""
        address = (record.feed, record.key)
        if self._overtaken_by_key.get(address) is record:
            yield self._overtaken_by_key.pop(address)
        for entry in self._overtaken[record.feed]:
            if entry.records[0] is record:
                self._overtaken[record.feed].remove(entry)
                for waiting in entry.records:
                    yield waiting._replace(arrival_us=record.arrival_us)
                return

    def _hold(self, record: Record, fate: float) -> Record:
        """Keep a record back: it is late, or others overtake it."""
        if fate < self._settings.late:
            return self._delay(record, LATE, self._lateness(record))
        held = self._delay(record, OUT_OF_ORDER, _MAX_WAIT_US)
        address = (record.feed, record.key)
        may_wait = record.op not in ("", "d") and address not in self._overtaken_by_key
        if may_wait and self._draw() < 0.5:
            self._overtaken_by_key[address] = held
        else:
            count = 1 + int(self._draw() * self._settings.window)
            self._overtaken[record.feed].append(_Overtaken(count, [held]))
        return held

    def _lateness(self, record: Record) -> int:
        least = _MIN_LATE_US
        if record.feed in VENDORS:
            least = VENDORS[record.feed].every_days * DAY_US
        return least + int(self._draw() ** 2 * (_MAX_LATE_US - least))

    def _delay(self, record: Record, flaw: str, wait_us: int) -> Record:
        delayed = record._replace(arrival_us=record.arrival_us + wait_us, flaw=flaw)
        self._serial += 1
        heapq.heappush(self._later, (delayed.arrival_us, self._serial, delayed))
        return delayed

    def _follow(self, delete: Record, tombstone: Record) -> None:
        """A tombstone comes after its delete, however that travels."""
        for entry in self._overtaken[delete.feed]:
            if entry.records[0] is delete:
                entry.records.append(tombstone._replace(flaw=delete.flaw))
                return
        self._delay(tombstone, delete.flaw, delete.arrival_us - tombstone.arrival_us)

    def _overtake(self, record: Record) -> Iterator[Record]:
        """Release what has been overtaken often enough, now that `record` has passed."""
        waiting = self._overtaken[record.feed]
        for entry in list(waiting):
            entry.remaining -= 1
            if entry.remaining == 0:
                waiting.remove(entry)
                for overtaken in entry.records:
                    yield overtaken._replace(arrival_us=record.arrival_us)

    def _repeat(self, record: Record) -> Iterator[Record]:
        if self._draw() < 0.5:
            yield record._replace(flaw=DUPLICATE)
        else:
            wait = MINUTE_US + int(self._draw() ** 2 * _MAX_DUPLICATE_US)
            self._delay(record, DUPLICATE, wait)

    def _spoiled(self, record: Record) -> Record:
        kind, spoil = next(self._spoilers[record.feed])
        text = record.value
        if not isinstance(text, str):
            raise TypeError("only text can be spoiled")
        value = spoil(record, text, self._draw())
        return record._replace(value=value, flaw=f"{MALFORMED}:{kind}")


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
