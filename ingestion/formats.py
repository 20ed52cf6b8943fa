"""Readers of files: an open stream of bytes in, chunks of accepted and rejected records out.

Every record of a file has a number, from 1, whether it is accepted or not; the header of a CSV
file and blank lines have none. A reader holds a few blocks of text in memory, and never more of a
record than `max_record_bytes`; a longer one is rejected in pieces.

Whole blocks are read at once, some in threads, where every record in them is beyond doubt; as soon
as one is not, its block is read record by record, which is slower and finds the reason.
"""

# pyarrow's types take parameters for the type checker only, not when the module runs.
from __future__ import annotations

import csv
import io
import re
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import orjson
import pyarrow as pa

from ingestion import avro, parquet
from ingestion.blocks import Objects, ahead, cut, has_control, is_utf8, read_objects
from ingestion.checks import NOT_UTF8, malformed, missing_key
from ingestion.config import FileOptions
from ingestion.streams import Source, open_text

# A quoted field may span lines; a stray quote must not swallow the rest of the file.
MAX_LINES_PER_ROW = 1_000

CUT_OFF = "the file is cut off in the middle of a record"
TOO_LONG = "longer than max_record_bytes"
UNCLOSED_QUOTE = "a quoted field is not closed"

_BOM = b"\xef\xbb\xbf"
_BLOCK_BYTES = 1024 * 1024
# Fewer bytes are read sooner line by line: to look at a whole block takes half a millisecond.
_SMALLEST_BLOCK = 64 * 1024
_BINARY = {"parquet": parquet.read_rows, "avro": avro.read_rows}
_BINARY_ROWS = 10_000
_SPACE = b" \t\r\n"

# The limit of csv is one for the whole process, and far too small; lines are bounded here instead.
csv.field_size_limit(sys.maxsize)


class RejectedText(NamedTuple):
    """A rejected record of a file: its number, its original bytes, and why."""

    position: int
    value: bytes
    reason: str


class Chunk(NamedTuple):
    """Some consecutive records of a file; `keys` and `values` belong to `positions`.

    `columns` are the names that were seen, in their order.
    """

    positions: pa.Array[Any]
    keys: pa.Array[Any]
    values: pa.Array[Any]
    rejects: list[RejectedText]
    columns: tuple[str, ...]


class _Collector:
    """Numbers the records of a file and gathers them into chunks."""

    def __init__(self, key: Sequence[str]) -> None:
        self.key = tuple(key)
        self.number = 0
        self.columns: dict[str, None] = {}
        self._new_chunk()

    def _new_chunk(self) -> None:
        self._positions: list[int] = []
        self._keys: list[bytes | None] = []
        self._values: list[bytes] = []
        self._rejects: list[RejectedText] = []

    def accept(self, value: bytes, key: bytes | None) -> None:
        self.number += 1
        self._positions.append(self.number)
        self._keys.append(key)
        self._values.append(value)

    def accept_all(self, values: Sequence[bytes], keys: Sequence[bytes | None]) -> None:
        self._positions += range(self.number + 1, self.number + len(values) + 1)
        self.number += len(values)
        self._keys += keys
        self._values += values

    def reject(self, value: bytes, reason: str) -> None:
        self.number += 1
        self._rejects.append(RejectedText(self.number, value, reason))

    def judge(self, original: bytes, value: bytes, record: object) -> None:
        """Accept a parsed value if it is an object with its key; else reject its original text."""
        if not isinstance(record, dict):
            self.reject(original, "not a JSON object")
        elif reason := missing_key(record, self.key):
            self.reject(original, reason)
        else:
            self.columns.update(dict.fromkeys(record))
            columns = [[record[name]] for name in self.key]
            self.accept(value, _key_texts(self.key, columns, 1)[0])

    def judge_all(self, texts: Sequence[bytes], *, compact: bool = False) -> bool:
        """Accept all of these JSON texts, or none of them if there is any doubt about one."""
        try:
            records: list[Any] = list(map(orjson.loads, texts))
            if set(map(type, records)) != {dict}:
                return False
            columns = [[record[name] for record in records] for name in self.key]
        except (orjson.JSONDecodeError, KeyError):
            return False
        if any(None in column or "" in column for column in columns):
            return False
        if not set().union(*records) <= self.columns.keys():
            for names in dict.fromkeys(map(tuple, records)):
                self.columns.update(dict.fromkeys(names))
        keys = _key_texts(self.key, columns, len(texts))
        self.accept_all(_compact(texts) if compact else texts, keys)
        return True

    def take(self) -> Chunk:
        chunk = Chunk(
            pa.array(self._positions, pa.int64()),
            _texts(self._keys),
            _texts(self._values),
            self._rejects,
            tuple(self.columns),
        )
        self._new_chunk()
        return chunk

    def take_columns(self, values: pa.Array[Any], keys: pa.Array[Any]) -> Chunk:
        """Return a chunk of accepted records; nothing else may be waiting."""
        positions = pa.array(np.arange(self.number + 1, self.number + len(values) + 1))
        self.number += len(values)
        return Chunk(positions, keys, values, [], tuple(self.columns))


def _texts(values: Sequence[bytes | None]) -> pa.Array[Any]:
    # Several times faster than to have every value checked by itself.
    return pa.array(values, pa.binary()).cast(pa.string())


def _key_texts(
    key: Sequence[str], columns: Sequence[Sequence[object]], count: int
) -> list[bytes | None]:
    """Return the landed keys: JSON objects of the key fields, which are given by column."""
    if not key:
        return [None] * count
    if len(key) == 1:
        head = orjson.dumps({key[0]: 0})[:-2]
        if set(map(type, columns[0])) == {int}:
            return [head + text + b"}" for text in orjson.dumps(columns[0])[1:-1].split(b",")]
        return [head + parquet.to_json(value) + b"}" for value in columns[0]]
    return [parquet.to_json(dict(zip(key, row, strict=True))) for row in zip(*columns, strict=True)]


def read_records(
    raw: BinaryIO, name: str, value_format: str, options: FileOptions, key: Sequence[str]
) -> Iterator[Chunk]:
    """Read a file of a known format, whose `name` tells how it is compressed."""
    out = _Collector(key)
    if value_format in _BINARY:
        for record, value, reason in _BINARY[value_format](raw):
            if reason:
                out.reject(value, reason)
            else:
                out.judge(value, value, record)
            if out.number % _BINARY_ROWS == 0:
                yield out.take()
        yield out.take()
        return
    source = open_text(raw, name, options.encoding)
    if value_format in ("csv", "tsv"):
        yield from _read_csv(source, options, out)
    elif value_format == "ndjson":
        yield from _read_ndjson(source, options.max_record_bytes, out)
    elif value_format == "json_document":
        yield from _read_json_document(source, options.max_record_bytes, out)
    else:
        raise ValueError(f"no reader for format {value_format}")
    if source.fault:
        out.reject(b"", f"{source.fault}; the rest of it cannot be read")
        yield out.take()


def _blocks(source: Source, limit: int) -> Iterator[tuple[bytes, bool]]:
    """Yield whole lines in blocks, and a line longer than `limit` in pieces, with True."""
    size = min(_BLOCK_BYTES, limit)
    text = source.read(max(size, len(_BOM))).removeprefix(_BOM)
    too_long = False
    while text:
        first = text.find(b"\n") + 1
        if too_long or (first or len(text)) > limit:
            cut = min(first or len(text), limit)
            yield text[:cut], True
            too_long = cut != first
            text = text[cut:] or source.read(size)
            continue
        # A line within one read is not longer than a read; so only the first can be too long.
        end = text.rfind(b"\n") + 1
        if end:
            yield text[:end], False
            text = text[end:]
        more = source.read(size)
        if not more and text:
            yield text, False
            return
        text += more


def _without_end(line: bytes) -> bytes:
    """Return a line without its line end, but with every other white space it has."""
    return line[:-2] if line.endswith(b"\r\n") else line.removesuffix(b"\n")


# --- NDJSON -------------------------------------------------------------------------------------


def _read_ndjson(source: Source, limit: int, out: _Collector) -> Iterator[Chunk]:
    def at_once(item: tuple[bytes, bool]) -> Objects | None:
        block, too_long = item
        if too_long or len(block) < _SMALLEST_BLOCK:
            return None
        return read_objects(block[: block.rfind(b"\n") + 1], out.key)

    for (block, too_long), objects in ahead(at_once, _blocks(source, limit)):
        if too_long:
            out.reject(_without_end(block), TOO_LONG)
        else:
            # What follows the last line end is empty, unless the file ends without one.
            lines, end, last = block.rpartition(b"\n")
            if objects:
                out.columns.update(dict.fromkeys(objects.names))
                yield out.take_columns(objects.values, objects.keys)
            elif end:
                _judge_lines(out, lines.split(b"\n"))
            _judge_line(out, last, is_ended=False)
        yield out.take()


def _judge_lines(out: _Collector, lines: list[bytes]) -> None:
    lines = [line.removesuffix(b"\r") for line in lines]
    if not out.judge_all(lines):
        for line in lines:
            _judge_line(out, line, is_ended=True)


def _judge_line(out: _Collector, line: bytes, *, is_ended: bool) -> None:
    if not line.strip():
        return
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        out.reject(line, malformed(line, error) if is_ended else CUT_OFF)
        return
    out.judge(line, line, record)


# --- CSV and TSV --------------------------------------------------------------------------------


class _Columns(NamedTuple):
    """Accepted rows of a file."""

    values: pa.Array[Any]
    keys: pa.Array[Any]


class _BadLineError(Exception):
    """A line that cannot be part of any row."""


class _LineFeed:
    """Feeds csv.reader line by line, and remembers the lines that the current row has taken.

    `retreat` gives back all but the first of them: when a row is rejected, the lines after its
    first are tried again, so that one stray quote costs one line.
    """

    def __init__(self, blocks: Iterator[tuple[tuple[bytes, bool], _Columns | None]]) -> None:
        self._blocks = blocks
        self._text, self._start, self._is_long = b"", 0, False
        # Of the block that `next_block` has returned, all of its rows, if it was read at once.
        self.columns: _Columns | None = None
        self._again: deque[tuple[bytes, bool]] = deque()
        self.taken: list[tuple[bytes, bool]] = []

    def next_block(self) -> bytes:
        """Return the lines of the next block, if all lines before it were taken, else nothing."""
        if self._again or self._start < len(self._text):
            return b""
        self._load()
        return b"" if self._is_long else self._text

    def rest(self) -> bytes:
        """Return the lines of this block that were not taken yet."""
        return b"" if self._again or self._is_long else self._text[self._start :]

    def skip(self) -> None:
        """Take what `next_block` or `rest` has returned."""
        self._start = len(self._text)

    def _load(self) -> None:
        item, self.columns = next(self._blocks, ((b"", False), None))
        self._text, self._is_long = item
        self._start = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._again:
            item = self._again.popleft()
        else:
            if self._start >= len(self._text):
                self._load()
                if not self._text:
                    raise StopIteration
            start, end = self._start, self._text.find(b"\n", self._start) + 1
            self._start = end or len(self._text)
            item = (self._text[start : self._start], self._is_long)
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


def _read_csv(source: Source, options: FileOptions, out: _Collector) -> Iterator[Chunk]:
    dialect = _dialect(options)
    reader: _CsvBlocks | None = None

    def at_once(item: tuple[bytes, bool]) -> _Columns | None:
        return reader.read(item[0]) if reader and not item[1] else None

    blocks = _blocks(source, options.max_record_bytes)
    # The first block has the header in it: only then is known how to read the others.
    first = ((block, None) for block in islice(blocks, 1))
    feed = _LineFeed(chain(first, ahead(at_once, blocks)))
    rows = _rows(feed, dialect)
    names = list(options.columns)
    header_fault = ""
    if options.header:
        # Lines before the header are blank; a file without any other has no header and no rows.
        row, fault = next(rows, ([], ""))
        header_fault = fault or _header_fault(row)
        if header_fault:
            header_fault = f"the header cannot be used: {header_fault}"
            out.reject(feed.retreat(), header_fault)
        names = row
    if not header_fault:
        out.columns.update(dict.fromkeys(names))
        if names and set(out.key) <= set(names):
            reader = _CsvBlocks(names, options, dialect, out.key)
    block = feed.rest()
    columns = reader.read(block) if block and reader else None
    while True:
        if columns:
            feed.skip()
            yield out.take_columns(*columns)
        else:
            item = next(rows, None)
            if item is None:
                break
            _judge_row(out, feed, names, item[0], header_fault or item[1])
        block = feed.next_block()
        columns = feed.columns if block else None
        if block:
            yield out.take()
    yield out.take()


def _dialect(options: FileOptions) -> dict[str, Any]:
    return {
        "delimiter": options.delimiter,
        "quotechar": options.quote or None,
        "quoting": csv.QUOTE_MINIMAL if options.quote else csv.QUOTE_NONE,
        "escapechar": options.escape or None,
        # Text after a closing quote, or the end of the file inside quotes, is an error.
        "strict": True,
    }


def _judge_row(
    out: _Collector, feed: _LineFeed, names: Sequence[str], row: list[str], fault: str
) -> None:
    if fault:
        out.reject(feed.retreat(), fault)
    elif len(row) != len(names):
        columns = "1 column" if len(row) == 1 else f"{len(row)} columns"
        out.reject(feed.retreat(), f"{columns}, the header has {len(names)}")
    else:
        record = dict(zip(names, row, strict=True))
        text = feed.text()
        if reason := missing_key(record, out.key):
            out.reject(text, reason)
        else:
            keys = _key_texts(out.key, [[record[name]] for name in out.key], 1)
            out.accept(orjson.dumps(record), keys[0])


def _rows(feed: _LineFeed, dialect: Mapping[str, Any]) -> Iterator[tuple[list[str], str]]:
    """Yield each row with its fault, if it has one; a blank line is no row."""
    reader = csv.reader(feed, **dialect)
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


class _CsvBlocks:
    """Reads a block of CSV lines at once, if every row of it is good and is one line."""

    def __init__(
        self,
        names: Sequence[str],
        options: FileOptions,
        dialect: Mapping[str, Any],
        key: Sequence[str],
    ) -> None:
        self._names, self._dialect, self._key = names, dialect, key
        self._quote, self._delimiter = options.quote.encode(), options.delimiter.encode()
        self._key_columns = [names.index(name) for name in key]
        # In a line that is only cut no text may hold what JSON or the dialect escapes.
        self._allowed = b"\n" + self._delimiter + self._quote
        self._escapes = {*b'"\\', *options.escape.encode()} - {*self._allowed}
        # One column: an empty line could be a row. Marks beyond ASCII are left to csv.
        self._may_be_plain = len(names) > 1 and len(self._delimiter + self._quote) <= 2

    def read(self, block: bytes) -> _Columns | None:
        """Return the rows of a block, or None if they must be read one by one."""
        return self._read_plain(block) or self._read_rows(block)

    def _read_plain(self, block: bytes) -> _Columns | None:
        """Read lines in which nothing has to be escaped, by cutting them at the delimiters."""
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n")
        if not self._may_be_plain or any(mark in block for mark in self._escapes):
            return None
        if has_control(block, self._allowed) or not is_utf8(block):
            return None
        if not block.endswith(b"\n"):
            block += b"\n"
        quote = self._quote if self._quote and self._quote in block else b""
        fields = cut(block, self._delimiter, quote, len(self._names))
        if fields is None or any((fields.lengths(i) == 0).any() for i in self._key_columns):
            return None
        keys: pa.Array[Any] = pa.nulls(fields.lines, pa.string())
        if self._key:
            keys = fields.objects(self._key, self._key_columns)
        return _Columns(fields.objects(self._names, range(len(self._names))), keys)

    def _read_rows(self, block: bytes) -> _Columns | None:
        try:
            # newline: lines end at \n only, which stays in them.
            reader = csv.reader(io.StringIO(block.decode(), newline="\n"), **self._dialect)
            rows = list(reader)
        except (UnicodeDecodeError, csv.Error):
            return None
        if reader.line_num != len(rows):
            return None  # a row of several lines
        rows = [row for row in rows if row]
        if not set(map(len, rows)) <= {len(self._names)}:
            return None
        keys = [[row[i] for row in rows] for i in self._key_columns]
        if any("" in column for column in keys):
            return None
        values = [orjson.dumps(dict(zip(self._names, row, strict=True))) for row in rows]
        return _Columns(_texts(values), _texts(_key_texts(self._key, keys, len(rows))))


# --- JSON documents -----------------------------------------------------------------------------

# What matters to find the end of an element: brackets, and strings because they may hold brackets.
# Group 1 is empty where a string is not closed yet.
_TOKEN = re.compile(rb'[{}\[\]]|"(?:[^"\\]++|\\.)*+("?)', re.DOTALL)
# An object without another inside, which most are: found in one step.
_FLAT_OBJECT = re.compile(rb'\{(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+\}', re.DOTALL)
# In between two objects of an array.
_BETWEEN = re.compile(rb"\}[ \t\r\n]*,[ \t\r\n]*\{")
_FIRST = re.compile(rb"[ \t\r\n]*,?[ \t\r\n]*\{")
_NOT_SPACE = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[^" \t\r\n]++', re.DOTALL)


def _read_json_document(  # noqa: PLR0912 - one state machine, kept in one place
    stream: Source, limit: int, out: _Collector
) -> Iterator[Chunk]:
    """Read one object, or an array of objects, element by element.

    Elements are cut out by their brackets, not by parsing: a malformed one costs only itself as
    long as its brackets and quotes are balanced, and numbers stay as they were written.
    """
    buffer = stream.read(_BLOCK_BYTES).removeprefix(_BOM)
    start = scan = depth = 0  # start: of the text not yet consumed; depth: of open brackets
    outer = -1  # depth at which elements begin: 1 in an array, 0 for one object; -1: not known
    closed = is_tried = False
    while True:
        if depth == outer == 1 and not is_tried:
            # Between two elements, once per block.
            scan = start = _accept_elements(out, buffer, start)
            is_tried = True
            yield out.take()
        token = None if closed else _TOKEN.search(buffer, scan)
        if token is None or token.group(1) == b"":
            scan = token.start() if token else len(buffer)
            if len(buffer) - start > limit:
                break
            block = stream.read(_BLOCK_BYTES)
            if not block:
                break
            buffer, scan, start = buffer[start:] + block, scan - start, 0
            is_tried = False
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
                _accept_element(out, flat.group())
            else:
                depth += 1
        elif bracket in (b"}", b"]"):
            depth -= 1
            if depth == outer:
                _accept_element(out, buffer[start:scan])
                start = scan
            if depth <= 0:
                if outer == 1:
                    _reject_between(out, buffer[start : token.start()])
                    start = scan
                closed = True
    yield out.take()
    yield from _reject_rest(out, buffer[start:], stream, limit, closed=closed, outer=outer)


def _accept_elements(out: _Collector, buffer: bytes, start: int) -> int:
    """Accept the objects that follow, up to the last one; return where the next one begins.

    Where the text is cut at `}, {` and every piece is an object, the pieces are the elements:
    JSON can be read in one way only. Else nothing is accepted.
    """
    first = _FIRST.match(buffer, start)
    if not first:
        return start
    *pieces, last = _BETWEEN.split(buffer[first.end() :])
    if pieces and out.judge_all([b"{%b}" % piece for piece in pieces], compact=True):
        return len(buffer) - len(last) - 1
    return start


def _accept_element(out: _Collector, element: bytes) -> None:
    try:
        record = orjson.loads(element)
    except orjson.JSONDecodeError as error:
        out.reject(element, malformed(element, error))
        return
    out.judge(element, _compact([element])[0], record)


def _compact(texts: Sequence[bytes]) -> list[bytes]:
    """Take the white space between the tokens out of valid JSON texts."""
    joined = b"\0".join(texts)  # neither \0 nor \1 can be in a JSON text
    if b'\\"' in joined:
        return [b"".join(_NOT_SPACE.findall(text)) for text in texts]
    parts = joined.split(b'"')
    outside = b"\1".join(parts[::2]).translate(None, _SPACE)  # of the strings
    parts[::2] = outside.split(b"\1")
    return b'"'.join(parts).split(b"\0")


def _reject_between(out: _Collector, text: bytes) -> None:
    """Between two elements there is one comma; anything else is an element that is no object."""
    text = text.strip()
    text = text.removeprefix(b",").removesuffix(b",").strip()
    if text:
        out.reject(text, "not a JSON object")


def _reject_rest(
    out: _Collector, rest: bytes, stream: Source, limit: int, *, closed: bool, outer: int
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
        yield out.take()
    yield out.take()
