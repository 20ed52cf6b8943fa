"""Readers of files: an open stream of bytes in, chunks of accepted and rejected records out.

Every record of a file has a number, from 1, whether it is accepted or not; the header of a CSV
file and blank lines have none. A reader holds one chunk in memory and never more of a record than
`max_record_bytes`; a longer one is rejected in pieces of that size.
"""

import csv
import re
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, NamedTuple

import orjson

from ingestion.records import NOT_UTF8, malformed, missing_key

CHUNK_RECORDS = 20_000
CHUNK_BYTES = 16 * 1024 * 1024
# A quoted field may span lines; a stray quote must not swallow the rest of the file.
MAX_LINES_PER_ROW = 1_000

CUT_OFF = "the file is cut off in the middle of a record"
TOO_LONG = "longer than max_record_bytes"
UNCLOSED_QUOTE = "a quoted field is not closed"

_BOM = b"\xef\xbb\xbf"
_BLOCK_BYTES = 1024 * 1024

# The limit of csv is one for the whole process, and far too small; lines are bounded here instead.
csv.field_size_limit(sys.maxsize)


class RejectedText(NamedTuple):
    """A rejected record of a file: its number, its original bytes, and why."""

    position: int
    value: bytes
    reason: str


class Chunk(NamedTuple):
    """Some consecutive records of a file; `keys` and `values` belong to `positions`."""

    positions: list[int]
    keys: list[bytes | None]
    values: list[bytes]
    rejects: list[RejectedText]


class _Collector:
    """Numbers the records of a file and gathers them into chunks."""

    def __init__(self) -> None:
        self._number = 0
        self._new_chunk()

    def _new_chunk(self) -> None:
        self._size = 0
        self._chunk = Chunk([], [], [], [])

    def accept(self, value: bytes, key: bytes | None) -> None:
        self._number += 1
        self._size += len(value)
        chunk = self._chunk
        chunk.positions.append(self._number)
        chunk.keys.append(key)
        chunk.values.append(value)

    def reject(self, value: bytes, reason: str) -> None:
        self._number += 1
        self._size += len(value)
        self._chunk.rejects.append(RejectedText(self._number, value, reason))

    def full(self) -> bool:
        chunk = self._chunk
        return self._size >= CHUNK_BYTES or (
            len(chunk.positions) + len(chunk.rejects) >= CHUNK_RECORDS
        )

    def take(self) -> Chunk:
        chunk = self._chunk
        self._new_chunk()
        return chunk


def read_records(
    stream: BinaryIO, value_format: str, delimiter: str, key: Sequence[str], max_record_bytes: int
) -> Iterator[Chunk]:
    """Read a file of a known format. The stream is read once, forwards."""
    if value_format in ("csv", "tsv"):
        return _read_csv(stream, delimiter, key, max_record_bytes)
    if value_format == "ndjson":
        return _read_ndjson(stream, key, max_record_bytes)
    if value_format == "json_document":
        return _read_json_document(stream, key, max_record_bytes)
    raise ValueError(f"no reader for format {value_format}")


def _lines(stream: BinaryIO, limit: int) -> Iterator[tuple[bytes, bool]]:
    """Yield each line with its end, and whether it is a piece of a line longer than `limit`."""
    first, continued = True, False
    while line := stream.readline(limit):
        ended = line.endswith(b"\n")
        too_long = continued or (not ended and len(line) == limit)
        continued = too_long and not ended
        if first:
            first, line = False, line.removeprefix(_BOM)
        yield line, too_long


def _without_end(line: bytes) -> bytes:
    """Return a line without its line end, but with every other white space it has."""
    return line[:-2] if line.endswith(b"\r\n") else line.removesuffix(b"\n")


def _key_text(record: Mapping[str, object], key: Sequence[str]) -> bytes | None:
    """Return the landed key: the JSON object of the key fields."""
    return orjson.dumps({name: record[name] for name in key}) if key else None


# --- NDJSON -------------------------------------------------------------------------------------


def _read_ndjson(stream: BinaryIO, key: Sequence[str], limit: int) -> Iterator[Chunk]:
    out = _Collector()
    for line, too_long in _lines(stream, limit):
        if out.full():
            yield out.take()
        value = _without_end(line)
        if too_long:
            out.reject(value, TOO_LONG)
            continue
        if not value.strip():
            continue
        try:
            record = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            out.reject(value, malformed(value, error) if line.endswith(b"\n") else CUT_OFF)
            continue
        _judge(out, value, value, record, key)
    yield out.take()


def _judge(
    out: _Collector, original: bytes, value: bytes, record: object, key: Sequence[str]
) -> None:
    """Accept a parsed value if it is an object with its key; else reject its original text."""
    if not isinstance(record, dict):
        out.reject(original, "not a JSON object")
    elif reason := missing_key(record, key):
        out.reject(original, reason)
    else:
        out.accept(value, _key_text(record, key))


# --- CSV and TSV --------------------------------------------------------------------------------


class _BadLineError(Exception):
    """A line that cannot be part of any row."""


class _LineFeed:
    """Feeds csv.reader line by line, and remembers the lines that the current row has taken.

    `retreat` gives back all but the first of them: when a row is rejected, the lines after its
    first are tried again, so that one stray quote costs one line.
    """

    def __init__(self, lines: Iterator[tuple[bytes, bool]]) -> None:
        self._lines = lines
        self._again: deque[tuple[bytes, bool]] = deque()
        self.taken: list[tuple[bytes, bool]] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        item = self._again.popleft() if self._again else next(self._lines)
        self.taken.append(item)
        line, too_long = item
        if too_long:
            raise _BadLineError(TOO_LONG)
        if len(self.taken) > MAX_LINES_PER_ROW:
            raise _BadLineError(UNCLOSED_QUOTE)
        try:
            return line.decode()
        except UnicodeDecodeError:
            raise _BadLineError(NOT_UTF8) from None

    def retreat(self) -> bytes:
        """Return the first line of the current row, without its end, and give back the others."""
        self._again.extendleft(reversed(self.taken[1:]))
        return _without_end(self.taken[0][0])

    def text(self) -> bytes:
        """Return all lines of the current row, without the last line's end."""
        return _without_end(b"".join(line for line, _ in self.taken))


def _read_csv(stream: BinaryIO, delimiter: str, key: Sequence[str], limit: int) -> Iterator[Chunk]:
    out = _Collector()
    feed = _LineFeed(_lines(stream, limit))
    names: list[str] | None = None
    header_fault = ""
    for row, fault in _rows(feed, delimiter):
        if out.full():
            yield out.take()
        if names is None and not header_fault:
            header_fault = fault or _header_fault(row)
            if header_fault:
                header_fault = f"the header cannot be used: {header_fault}"
                out.reject(feed.retreat(), header_fault)
            else:
                names = row
        elif fault or names is None:
            out.reject(feed.retreat(), fault or header_fault)
        elif len(row) != len(names):
            columns = "1 column" if len(row) == 1 else f"{len(row)} columns"
            out.reject(feed.retreat(), f"{columns}, the header has {len(names)}")
        else:
            record = dict(zip(names, row, strict=True))
            if reason := missing_key(record, key):
                out.reject(feed.text(), reason)
            else:
                out.accept(orjson.dumps(record), _key_text(record, key))
    yield out.take()


def _rows(feed: _LineFeed, delimiter: str) -> Iterator[tuple[list[str], str]]:
    """Yield each row with its fault, if it has one; a blank line is no row."""
    # strict: text after a closing quote, or the end of the file inside quotes, is an error.
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        feed.taken.clear()
        try:
            if row := next(reader):
                yield row, ""
        except StopIteration:
            return
        except (csv.Error, _BadLineError) as error:
            yield [], _row_fault(error, len(feed.taken))


def _row_fault(error: Exception, lines: int) -> str:
    """Say why a row cannot be read. csv's own texts hold no data."""
    if isinstance(error, _BadLineError):
        return str(error) if lines == 1 else UNCLOSED_QUOTE
    text = str(error)
    return UNCLOSED_QUOTE if text == "unexpected end of data" else f"not valid CSV: {text}"


def _header_fault(names: list[str]) -> str:
    """A name that stands twice would lose a column in the JSON object."""
    return "a column name stands twice" if len(set(names)) < len(names) else ""


# --- JSON documents -----------------------------------------------------------------------------

# What matters to find the end of an element: brackets, and strings because they may hold brackets.
# Group 1 is empty where a string is not closed yet.
_TOKEN = re.compile(rb'[{}\[\]]|"(?:[^"\\]++|\\.)*+("?)', re.DOTALL)
# An object without another inside, which most are: found in one step.
_FLAT_OBJECT = re.compile(rb'\{(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+\}', re.DOTALL)
_NOT_SPACE = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[^" \t\r\n]++', re.DOTALL)


def _read_json_document(  # noqa: PLR0912 - one state machine, kept in one place
    stream: BinaryIO, key: Sequence[str], limit: int
) -> Iterator[Chunk]:
    """Read one object, or an array of objects, element by element.

    Elements are cut out by their brackets, not by parsing: a malformed one costs only itself as
    long as its brackets and quotes are balanced, and numbers stay as they were written.
    """
    out = _Collector()
    buffer = stream.read(_BLOCK_BYTES).removeprefix(_BOM)
    start = scan = depth = 0  # start: of the text not yet consumed; depth: of open brackets
    outer = -1  # depth at which elements begin: 1 in an array, 0 for one object; -1: not known
    closed = False
    while True:
        token = None if closed else _TOKEN.search(buffer, scan)
        if token is None or token.group(1) == b"":
            scan = token.start() if token else len(buffer)
            if len(buffer) - start > limit:
                break
            block = stream.read(_BLOCK_BYTES)
            if not block:
                break
            buffer, scan, start = buffer[start:] + block, scan - start, 0
            continue
        scan = token.end()
        bracket = token.group()
        if bracket in (b"{", b"["):
            if outer < 0:
                outer = 1 if bracket == b"[" else 0
            if depth == outer or (depth == 0 and outer == 1):
                _reject_between(out, buffer[start : token.start()])
                start = token.end() if depth < outer else token.start()
            flat = _FLAT_OBJECT.match(buffer, token.start()) if depth == outer == 1 else None
            if flat:
                scan = start = flat.end()
                _accept_element(out, flat.group(), key)
            else:
                depth += 1
        elif bracket in (b"}", b"]"):
            depth -= 1
            if depth == outer:
                _accept_element(out, buffer[start:scan], key)
                start = scan
            if depth <= 0:
                if outer == 1:
                    _reject_between(out, buffer[start : token.start()])
                    start = scan
                closed = True
        if out.full():
            yield out.take()
    yield from _reject_rest(out, buffer[start:], stream, limit, closed=closed, outer=outer)


def _accept_element(out: _Collector, element: bytes, key: Sequence[str]) -> None:
    try:
        record = orjson.loads(element)
    except orjson.JSONDecodeError as error:
        out.reject(element, malformed(element, error))
        return
    compact = b"".join(_NOT_SPACE.findall(element))
    _judge(out, element, compact, record, key)


def _reject_between(out: _Collector, text: bytes) -> None:
    """Between two elements there is one comma; anything else is an element that is no object."""
    text = text.strip()
    text = text.removeprefix(b",").removesuffix(b",").strip()
    if text:
        out.reject(text, "not a JSON object")


def _reject_rest(
    out: _Collector, rest: bytes, stream: BinaryIO, limit: int, *, closed: bool, outer: int
) -> Iterator[Chunk]:
    """Reject what follows the last element, in pieces where it is long."""
    if closed:
        reason = "text after the end of the document"
    elif len(rest) > limit:
        reason = TOO_LONG
    else:
        reason = CUT_OFF if outer >= 0 else "not a JSON object or an array of objects"
    if outer >= 0 and not closed and not rest.strip():
        out.reject(b"", CUT_OFF)  # the array is not closed, and nothing else is left of it
    while rest:
        if rest.strip():
            out.reject(rest[:limit], reason)
        rest = rest[limit:] or stream.read(limit)
        if out.full():
            yield out.take()
    yield out.take()
