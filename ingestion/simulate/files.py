"""The vendors' files: rows that arrive within a few days go into one file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

from ingestion.simulate.bank import Settings
from ingestion.simulate.imperfections import CUT_OFF_FILE
from ingestion.simulate.records import DAY_US, VENDORS, Batch, Record, Vendor, VendorFile


def bundle(
    batches: Iterable[list[Record]], settings: Settings, *, cut_off_file: bool
) -> Iterator[Batch]:
    """Topic records as they are; vendors' rows as files, each at the end of its days.

    With `cut_off_file` the first file of the vendor of JSON arrays comes a second time, under
    another name, and ends in the middle.
    """
    start = settings.start_us
    rows: dict[str, list[Record]] = {feed: [] for feed in VENDORS}
    closes = {feed: start + vendor.every_days * DAY_US for feed, vendor in VENDORS.items()}
    next_close = min(closes.values())

    def close(feed: str) -> Iterator[VendorFile]:
        nonlocal cut_off_file
        vendor, at = VENDORS[feed], closes[feed]
        closes[feed] = at + vendor.every_days * DAY_US
        collected, rows[feed] = rows[feed], []
        if not collected:
            return
        day = settings.start + timedelta(days=(at - start) // DAY_US)
        path = f"{vendor.folder}/{vendor.file_prefix}_{day.isoformat()}"
        content = _content(vendor, collected)
        flaws = tuple(row.flaw for row in collected if row.flaw)
        yield VendorFile(feed, f"{path}.{vendor.format}", content, at, len(collected), flaws)
        if cut_off_file and vendor.format == "json":
            cut_off_file = False
            path = f"{path}_again.{vendor.format}"
            yield VendorFile(feed, path, content[: len(content) * 3 // 5], at, 0, (CUT_OFF_FILE,))

    def close_until(at: int) -> Iterator[VendorFile]:
        nonlocal next_close
        while next_close <= at:
            for feed, closing in closes.items():
                if closing == next_close:
                    yield from close(feed)
            next_close = min(closes.values())

    for records in batches:
        passing: list[Record] = []
        for record in records:
            feed, arrival_us = record[0], record[5]
            if arrival_us >= next_close:
                if passing:
                    yield passing
                    passing = []
                yield from close_until(arrival_us)
            if feed in rows:
                rows[feed].append(record)
            else:
                passing.append(record)
        if passing:
            yield passing
    while any(rows.values()):
        yield from close_until(next_close)


def _content(vendor: Vendor, rows: list[Record]) -> bytes:
    lines = [str(row.value) for row in rows]
    if vendor.format == "json":
        return ("[\n" + ",\n".join(lines) + "\n]\n").encode()
    if vendor.format == "csv":
        lines.insert(0, ";".join(f'"{column}"' for column in vendor.columns))
    elif vendor.format == "tsv":
        lines.insert(0, "\t".join(vendor.columns))
    return ("\n".join(lines) + "\n").encode()


def parse_row(feed: str, text: str) -> dict[str, Any]:
    """A vendor's row as a dict, all values as text for the delimited formats."""
    vendor = VENDORS[feed]
    if vendor.format in ("json", "ndjson"):
        row: dict[str, Any] = json.loads(text, parse_float=Decimal)
        return row
    delimiter = ";" if vendor.format == "csv" else "\t"
    values = next(csv.reader([text], delimiter=delimiter))
    return dict(zip(vendor.columns, values, strict=True))
