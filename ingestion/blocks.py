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

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
# So many blocks are worked on, or wait to be used.
_AHEAD = 2

# JSON as every parser reads it: no surrogates, and numbers that are neither long nor large.
_UNICODE = r"u(?:[0-9a-cefA-CEF][0-9a-fA-F]|[dD][0-7])[0-9a-fA-F]{2}"
_TEXT = rf'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\{_UNICODE})*"'
_NUMBER = r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17})?(?:[eE][-+]?[0-9]{1,2})?"
_SCALAR = f"(?:{_TEXT}|{_NUMBER}|true|false|null)"
# What a key may be: no empty text, and all only as it would be written again.
_KEY = r'(?:"[^"\\\x00-\x1f]+"|0|-?[1-9][0-9]{0,17})'
_KEY_VALUE = rb': ?("[^"]*"|[-0-9]+)'
# Neither quotes nor what stands between two texts: so a name is found where it is one, only.
_PLAIN_NAME = re.compile(r"[\w .$@/-]*", re.ASCII)
# A pattern of more names could grow beyond what its engine does at speed.
_MAX_NAMES = 64


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
    found = [re.findall(f'"{re.escape(name)}"'.encode() + _KEY_VALUE, block) for name in key]
    columns = [pa.array(texts, pa.binary()).cast(pa.string()) for texts in found]
    keys = join_objects(key, columns, "") if key else pa.nulls(len(ends), pa.string())
    return Objects(values, keys, tuple(record))


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


def join_objects(
    names: Sequence[str], columns: Sequence[pa.Array[Any]], quote: str = '"'
) -> pa.Array[Any]:
    """Return JSON objects of columns of texts in which nothing has to be escaped.

    `quote`: what is to stand around the texts.
    """
    parts: list[Any] = []
    for name, column in zip(names, columns, strict=True):
        opener = f"{quote}," if parts else "{"
        parts += [f"{opener}{orjson.dumps(name).decode()}:{quote}", column]
    result: pa.Array[Any] = pc.binary_join_element_wise(*parts, quote + "}", "")
    return result
