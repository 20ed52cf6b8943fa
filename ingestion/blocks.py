"""Whole blocks of lines at once: what can be said of all of them without looking at each.

A block is either read here exactly as line by line, or not at all: then nothing is returned, and
who asked reads its lines one by one.
"""

# pyarrow's types take parameters for the type checker only, not when the module runs.
from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.checks import check_text

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Places = np.ndarray[Any, np.dtype[Any]]
# So many blocks are worked on, or wait to be used.
_AHEAD = 2

# JSON as every parser reads it: no surrogates, and numbers that are neither long nor large.
_UNICODE = r"u(?:[0-9a-cefA-CEF][0-9a-fA-F]|[dD][0-7])[0-9a-fA-F]{2}"
_TEXT = rf'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\{_UNICODE})*"'
_NUMBER = r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17})?(?:[eE][-+]?[0-9]{1,2})?"
_SCALAR = f"(?:{_TEXT}|{_NUMBER}|true|false|null)"
# What a key may be: no empty text, and all only as it would be written again.
_KEY = r'(?:"[^"\\\x00-\x1f]+"|0|-?[1-9][0-9]{0,17})'
# Neither quotes nor what stands between two texts: so a name is found where it is one, only.
_PLAIN_NAME = re.compile(r"[\w .$@/-]*", re.ASCII)
# A pattern of more names could grow beyond what its engine does at speed.
_MAX_NAMES = 64
# The value of a key, with its quotes and one byte more.
_MAX_KEY = 64


def ahead(
    function: Callable[[_Item], _Result], items: Iterable[_Item]
) -> Iterator[tuple[_Item, _Result]]:
    """Yield items, each with what the function returns for it, in their order.

    It is called in threads, a few items ahead; for a single item it is not worth a thread.
    """
    rest = iter(items)
    first = list(islice(rest, 2))
    if len(first) < 2:
        yield from ((item, function(item)) for item in first)
        return
    with ThreadPoolExecutor(2) as pool:
        waiting: deque[tuple[_Item, Future[_Result]]] = deque()
        for item in chain(first, rest):
            waiting.append((item, pool.submit(function, item)))
            if len(waiting) > _AHEAD:
                done, result = waiting.popleft()
                yield done, result.result()
        yield from ((item, result.result()) for item, result in waiting)


def count(block: bytes, characters: Iterable[int]) -> int:
    """Return how often these bytes stand in a block, many times faster than bytes.count."""
    content = np.frombuffer(block, np.uint8)
    return sum(int(np.count_nonzero(content == character)) for character in characters)


def has_control(block: bytes, but: bytes) -> bool:
    """Tell whether there is any byte below 32, but those."""
    low = int(np.count_nonzero(np.frombuffer(block, np.uint8) < 32))
    return low != count(block, {character for character in but if character < 32})


def is_utf8(block: bytes) -> bool:
    """Tell whether a block is a text."""
    return block.isascii() or check_text(block) is None


class Fields:
    """Texts within a block, as many in each of its lines, in which nothing has to be escaped."""

    def __init__(self, block: bytes, starts: _Places, ends: _Places) -> None:
        """One row per line, one column per field."""
        self._block, self._starts, self._ends = block, starts, ends
        self.lines, self._count = starts.shape

    def lengths(self, column: int) -> _Places:
        """Return how long the texts of a column are."""
        return self._ends[:, column] - self._starts[:, column]

    def objects(
        self, names: Sequence[str], columns: Sequence[int], quote: str = '"'
    ) -> pa.Array[Any]:
        """Return JSON objects of columns under names; `quote`: what stands around the texts."""
        # One array of pieces: each text, and what lies between it and the next; then the constants.
        between = [f"{quote},{name}:{quote}" for name in map(_quoted, names)]
        constants = [f"{{{between[0][len(quote) + 1 :]}", *between[1:], f"{quote}}}"]
        added = np.cumsum([0, *(len(text.encode()) for text in constants)])
        places = np.column_stack((self._starts.ravel(), self._ends.ravel())).ravel()
        offsets = np.concatenate((places, len(self._block) + added)).astype(np.int32)
        pieces = _string_array(offsets, self._block + "".join(constants).encode())
        # An object is some of them one after the other.
        order = np.empty((self.lines, 2 * len(names) + 1), np.int32)
        order[:, ::2] = len(places) + np.arange(len(names) + 1)
        numbers = np.arange(0, len(places), 2, dtype=np.int32).reshape(self._starts.shape)
        order[:, 1::2] = numbers[:, columns]
        taken: list[Any] = pieces.take(pa.array(order.ravel(), pa.int32())).buffers()
        ends = np.frombuffer(taken[1], np.int32)[: order.size + 1 : order.shape[1]]
        return _string_array(ends.copy(), taken[2])


def cut(block: bytes, delimiter: bytes, quote: bytes, count: int) -> Fields | None:
    """Cut lines at each delimiter; None unless all have `count` fields.

    `quote`: what all fields begin and end with, and none may hold; empty if none do.
    """
    content = np.frombuffer(block, np.uint8)
    marks = np.flatnonzero((content == ord(delimiter)) | (content == ord("\n")))
    if len(marks) % count:
        return None
    ends = marks.reshape(-1, count)
    is_line_end = content[ends] == ord("\n")
    if is_line_end[:, :-1].any() or not is_line_end[:, -1].all():
        return None
    starts = np.concatenate(([0], marks[:-1] + 1)).reshape(-1, count)
    if quote:
        is_quoted = (content[starts] == ord(quote)) & (content[ends - 1] == ord(quote))
        if not (is_quoted & (ends - starts >= 2)).all():
            return None
        if np.count_nonzero(content == ord(quote)) != 2 * len(marks):
            return None
        starts, ends = starts + 1, ends - 1
    return Fields(block, starts, ends)


def _quoted(name: str) -> str:
    return orjson.dumps(name).decode()


def _string_array(offsets: _Places, text: object) -> pa.Array[Any]:
    """Return texts that follow one another, which must be UTF-8."""
    buffers: list[Any] = [pa.py_buffer(offsets.tobytes()), text]
    if isinstance(text, bytes):
        buffers[1] = pa.py_buffer(text)
    return pa.StringArray.from_buffers(len(offsets) - 1, *buffers)


class Objects(NamedTuple):
    """Lines that are JSON objects, their keys, and the names that all of them have."""

    values: pa.Array[Any]
    keys: pa.Array[Any]
    names: tuple[str, ...]


def read_objects(block: bytes, key: Sequence[str]) -> Objects | None:
    """Read whole lines that are objects with the names of the first, in the same order.

    They are matched by one pattern that is made of the first line and stricter than any parser.
    """
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    first = block[: block.find(b"\n")]
    if not first.startswith(b"{") or len(block) >= 2**31:
        return None
    try:
        record = orjson.loads(first)
        if not block.isascii():
            block.decode()
        names: list[str] = []
        pattern = rf"\A(?:{_pattern(record, key, names)}\n)+\z"
        is_match = pc.match_substring_regex(pa.array([block], pa.binary()), pattern)[0].as_py()
    except ValueError:  # no JSON, no UTF-8, not simple enough
        return None
    # A key may be missing, or also be a name in an object within.
    if not is_match or any(names.count(name) != 1 or name not in record for name in key):
        return None
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
    offsets = np.concatenate(([0], ends - np.arange(len(ends)))).astype(np.int32).tobytes()
    text = pa.py_buffer(block.replace(b"\n", b""))
    values = pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), text)
    keys: pa.Array[Any] = pa.nulls(len(ends), pa.string())
    if key:
        in_order = [name for name in record if name in key]
        columns = [in_order.index(name) for name in key]
        starts = np.concatenate(([0], ends[:-1] + 1))
        fields = _find(block, values, starts, in_order)
        if fields is None:
            return None
        keys = fields.objects(key, columns, "")
    return Objects(values, keys, tuple(record))


def _find(
    block: bytes, lines: pa.StringArray, starts: _Places, names: Sequence[str]
) -> Fields | None:
    """Find the values of names, in their order, in lines that have been matched.

    None if one is too long to be looked for here.
    """
    content = np.frombuffer(block + bytes(_MAX_KEY), np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(content, _MAX_KEY)
    begins, ends = [], []
    for name in names:
        head = f'"{name}":'
        # Only a name is followed by a colon, and none stands twice.
        found: pa.Array[Any] = pc.find_substring(lines, pattern=head)
        at = starts + np.asarray(found) + len(head)
        at += content[at] == ord(" ")
        window = windows[at]
        is_text = window[:, 0] == ord('"')
        is_end = window == ord('"')
        is_end[:, 0] = False
        is_end[~is_text] = np.isin(window[~is_text], list(b",}"))
        if not is_end.any(axis=1).all():
            return None
        begins.append(at)
        ends.append(at + is_end.argmax(axis=1) + is_text)
    return Fields(block, np.column_stack(begins), np.column_stack(ends))


def _pattern(value: object, key: Sequence[str], names: list[str]) -> str:
    """Return a pattern of objects like this one, and gather its names; ValueError if too many."""
    if not isinstance(value, Mapping):
        return _SCALAR
    parts = []
    for name, field in value.items():
        names.append(name)
        if len(names) > _MAX_NAMES or not _PLAIN_NAME.fullmatch(name):
            raise ValueError("not simple enough")
        what = _KEY if name in key else _pattern(field, (), names)
        parts.append(f'"{re.escape(name)}": ?{what}')
    return r"\{" + ", ?".join(parts) + r"\}"
