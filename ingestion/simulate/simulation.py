"""The whole simulation: from settings to deliveries in arrival order, to a sink, to the truth."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from itertools import chain
from operator import attrgetter
from time import perf_counter
from typing import Any

from ingestion.simulate.bank import LIFECYCLE, Bank, Settings
from ingestion.simulate.draws import stream
from ingestion.simulate.files import bundle, parse_row
from ingestion.simulate.imperfections import DUPLICATE, MALFORMED, Imperfections, disturb
from ingestion.simulate.records import TOPICS, Batch, Delivery, Record, VendorFile
from ingestion.simulate.sinks import Sink

Row = dict[str, Any]
_FEED, _FLAW = attrgetter("feed"), attrgetter("flaw")


@dataclass(frozen=True)
class Part:
    """The `number`-th of `total` equal parts of the arrival order."""

    number: int = 1
    total: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.total:
            raise ValueError(f"part {self.number}/{self.total}: must be from 1/{self.total}")


@dataclass
class Report:
    """What one run delivered.

    `feeds` counts records (rows of files) per feed, all copies included; `flaws` counts how many
    of them suffered from what; `deleted` counts deletes per table, without their repetitions.
    """

    settings: Settings
    part: Part
    imperfections: Imperfections
    feeds: Counter[str] = field(default_factory=Counter)
    flaws: Counter[str] = field(default_factory=Counter)
    deleted: Counter[str] = field(default_factory=Counter)
    files: int = 0
    seconds: float = 0.0

    @property
    def records(self) -> int:
        """Records of all feeds."""
        return sum(self.feeds.values())

    @property
    def events_per_second(self) -> int:
        """Records generated and written per second of wall clock."""
        return round(self.records / self.seconds) if self.seconds else 0

    def count(self, batch: Batch) -> None:
        """Add what is handed on at once."""
        if isinstance(batch, VendorFile):
            self.files += 1
            self.feeds[batch.feed] += batch.rows
            self.flaws.update(batch.flaws)
            return
        self.feeds.update(map(_FEED, batch))
        self.flaws.update(filter(None, map(_FLAW, batch)))
        for record in batch:
            if record[6] == "d" and not record.flaw.startswith((DUPLICATE, MALFORMED)):
                self.deleted[record.feed] += 1

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it."""
        return {
            "seed": self.settings.seed,
            "customers": self.settings.customers,
            "days": self.settings.days,
            "start": self.settings.start.isoformat(),
            "end": self.settings.end.isoformat(),
            "part": f"{self.part.number}/{self.part.total}",
            "records": self.records,
            "files": self.files,
            "feeds": dict(sorted(self.feeds.items())),
            "imperfections": dict(sorted(self.flaws.items())),
            "deleted": dict(sorted(self.deleted.items())),
            "stated": asdict(self.imperfections)
            | {
                "customers_deleted": LIFECYCLE.customer_deleted,
                "card_purchases_deleted": LIFECYCLE.purchase_deleted,
                "purchase_trends_deleted": LIFECYCLE.trends_deleted,
            },
            "seconds": round(self.seconds, 3),
            "events_per_second": self.events_per_second,
        }


def undisturbed(settings: Settings) -> Iterator[Record]:
    """All records as they happened: nothing late, repeated or malformed."""
    return chain.from_iterable(Bank(settings).batches())


def deliveries(
    settings: Settings,
    imperfections: Imperfections | None = None,
    part: Part | None = None,
) -> Iterator[Delivery]:
    """What arrives, in arrival order: records of topics, and files of vendors.

    The bank itself is the same whatever the imperfections are. A part other than the whole costs
    a second run, to count.
    """
    for batch in _batches(settings, imperfections or Imperfections(), part or Part()):
        if isinstance(batch, VendorFile):
            yield batch
        else:
            yield from batch


def _batches(settings: Settings, flaws: Imperfections, part: Part) -> Iterator[Batch]:
    def everything() -> Iterator[Batch]:
        arriving = disturb(Bank(settings).batches(), flaws, stream(settings.seed, 2))
        return bundle(arriving, settings, cut_off_file=flaws.cut_off_file)

    if part.total == 1:
        return everything()
    count = sum(map(_size, everything()))
    first = count * (part.number - 1) // part.total
    return _section(everything(), first, count * part.number // part.total)


def _size(batch: Batch) -> int:
    return 1 if isinstance(batch, VendorFile) else len(batch)


def _section(batches: Iterable[Batch], first: int, end: int) -> Iterator[Batch]:
    """From the `first` delivery to the one before `end`."""
    at = 0
    for batch in batches:
        if first <= at and at + _size(batch) <= end:
            yield batch
        elif not isinstance(batch, VendorFile):
            cut = batch[max(first - at, 0) : max(end - at, 0)]
            if cut:
                yield cut
        at += _size(batch)
        if at >= end:
            return


def run(
    settings: Settings,
    sink: Sink,
    imperfections: Imperfections | None = None,
    part: Part | None = None,
    clock: Callable[[], float] = perf_counter,
) -> Report:
    """Deliver everything (or one part of it) into a sink."""
    report = Report(settings, part or Part(), imperfections or Imperfections())
    started = clock()
    with sink:
        for batch in _batches(settings, report.imperfections, report.part):
            report.count(batch)
            if isinstance(batch, VendorFile):
                sink.file(batch)
            else:
                sink.records(batch)
    report.seconds = clock() - started
    return report


def truth(settings: Settings) -> dict[str, dict[str, Row]]:
    """The rows that stand at the end, per feed and key, from the undisturbed sequence.

    Tables hold the rows alive at the end by their key; the event feeds hold all their events, by
    id (`checking_acct`, which has none, by a running number). Money is text, as on the wire;
    numbers with a point are `Decimal`.
    """
    changes: dict[str, dict[str, str]] = {feed: {} for feed in TOPICS}
    events: dict[str, dict[str, Row]] = {}
    for record in undisturbed(settings):
        if record.op:
            table = changes[record.feed]
            if record.image is not None:
                table[_key_value(record.key)] = record.image
            elif record.op == "d":
                del table[_key_value(record.key)]
            continue
        rows = events.setdefault(record.feed, {})
        row = _parse(record)
        name = (
            str(len(rows) + 1) if record.feed == "checking_acct" else str(next(iter(row.values())))
        )
        rows[name] = row
    return {
        feed: {key: json.loads(image) for key, image in table.items()}
        for feed, table in changes.items()
        if feed not in events
    } | events


def _key_value(key: str | None) -> str:
    return str(next(iter(json.loads(key or "{}").values())))


def _parse(record: Record) -> Row:
    text = str(record.value)
    if record.feed in TOPICS:
        row: Row = json.loads(text, parse_float=Decimal)
        return row
    return parse_row(record.feed, text)
