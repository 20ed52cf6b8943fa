"""The rules that decide whether a value is landed or rejected.

Bytes in, a reason out, or none. A reason never holds data of the record, at most the name of a
field: reasons are counted, shown and logged.

Of many values at once most are seen to be right by a parser that builds no objects, several times
faster. It only ever accepts; whatever it does not is judged by the rules, one value at a time.
"""

# pyarrow's types take parameters for the type checker only, not when the module runs.
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import orjson
import pyarrow as pa

NOT_UTF8 = "the value is not valid UTF-8"

# A check returns the reason for a rejection, or None for a record that is landed.
Check = Callable[[bytes], str | None]

_OPERATIONS = ("c", "u", "d", "r", "t", "i")


def check_text(value: bytes) -> str | None:
    """Reject what is not UTF-8."""
    try:
        value.decode()
    except UnicodeDecodeError:
        return NOT_UTF8
    return None


def are_utf8(column: pa.Array[Any]) -> bool:
    """Tell whether all of these bytes are texts; Python is not held up meanwhile."""
    try:
        column.cast(pa.string())
    except pa.ArrowInvalid:
        return False
    return True


def malformed(value: bytes, error: orjson.JSONDecodeError) -> str:
    """Say why a value could not be parsed, without its content and without a changing position."""
    return check_text(value) or f"not valid JSON: {error.msg}"


def missing_key(record: Mapping[str, Any], fields: Iterable[str]) -> str | None:
    """Reject a record in which a key field is absent, null or an empty text."""
    for field in fields:
        value = record.get(field)
        if value is None or value == "":
            state = "missing" if field not in record else "null" if value is None else "empty"
            return f"key field '{field}' is {state}"
    return None


class ValueCheck:
    """The rules for the values of one feed, whose format is json, debezium or text."""

    def __init__(self, value_format: str, key: Sequence[str]) -> None:
        """`key`: the fields that a record must have."""
        rules: dict[str, Check] = {
            "text": check_text,
            "json": self._check_json,
            "debezium": self._check_debezium,
        }
        self._key, self._check = tuple(key), rules[value_format]
        self._is_text = value_format == "text"
        self._see = None if self._is_text else _glance(value_format, self._key)

    def __call__(self, value: bytes) -> str | None:
        """Judge one value."""
        return self._check(value)

    def reasons(self, values: Sequence[bytes | None], column: pa.Array[Any]) -> dict[int, str]:
        """Return why values are rejected, by their numbers in the sequence; None never is.

        `column` holds the same values.
        """
        doubtful: Iterable[int] = range(len(values))
        if are_utf8(column):
            doubtful = self._doubtful(values, column)
        judged = ((n, values[n]) for n in doubtful)
        reasons = ((n, self._check(value)) for n, value in judged if value is not None)
        return {n: reason for n, reason in reasons if reason is not None}

    def _doubtful(self, values: Sequence[bytes | None], column: pa.Array[Any]) -> Iterable[int]:
        """Return the numbers of the values, all of them UTF-8, that the rules must look at."""
        if self._is_text:
            return ()
        if self._see is None:
            return range(len(values))
        see, doubtful = self._see, _unlike_parsers(values, column)
        for n, value in enumerate(values):
            if value is not None:
                try:
                    see(value)
                except _UNSEEN:
                    doubtful.add(n)
        return sorted(doubtful)

    def _check_json(self, value: bytes) -> str | None:
        try:
            record = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            return malformed(value, error)
        if not isinstance(record, dict):
            return "not a JSON object"
        return missing_key(record, self._key)

    def _check_debezium(self, value: bytes) -> str | None:
        """Accept an envelope, bare or under `payload` (schemas.enable=true).

        A truncate (op t) has no row; a delete has it in `before`, everything else in `after`.
        """
        try:
            envelope = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            return malformed(value, error)
        if not isinstance(envelope, dict):
            return "not a JSON object"
        if "payload" in envelope and "op" not in envelope:
            envelope = envelope["payload"]
        return self._check_envelope(envelope)

    def _check_envelope(self, envelope: object) -> str | None:
        if not isinstance(envelope, dict):
            return "no change event: payload is not an object"
        operation = envelope.get("op")
        if operation is None:
            return "no change event: op is missing"
        if not isinstance(operation, str) or operation not in _OPERATIONS:
            return "unknown op"
        if operation == "t":
            return None
        image = "before" if operation == "d" else "after"
        row = envelope.get(image)
        if not isinstance(row, dict):
            return f"no row image: {image} is missing for op {operation}"
        return missing_key(row, self._key)


# --- at a glance ----------------------------------------------------------------------------------

# What a parser without objects raises for a value that it does not see to be right.
_UNSEEN = (msgspec.MsgspecError, ValueError, RecursionError)
# Brackets that cannot nest deeper than every parser goes, in one value.
_BRACKETS = 1_000
# Digits of a number, without an exponent of three, that is not beyond what a double holds.
_DIGITS = 200
_STRIDE = 25
# So much is looked at in one step: it stays in the processor's cache.
_STEP = 256 * 1024
_EXPONENT = 6  # bytes of a digit, e, a sign and three digits


def _glance(value_format: str, key: tuple[str, ...]) -> Callable[[bytes], object] | None:
    """Return what raises one of _UNSEEN unless a value is seen to be right; None if none can.

    It reads no more than is asked for below; of the rest it sees that it is JSON, if it is UTF-8
    and nothing of _unlike_parsers is in it.
    """
    try:
        row = _row(key)
    except ValueError:  # a field's name that has to be escaped
        return None
    if value_format == "json":
        return msgspec.json.Decoder(row).decode
    images = [("before", row | None, None), ("after", row | None, None)]
    operation = Literal[_OPERATIONS]  # type: ignore[valid-type]  # not known to the type checker
    envelope = msgspec.defstruct("Envelope", [("op", operation), *images], gc=False)
    bare_or_not = msgspec.defstruct(
        "BareOrNot",
        [("op", operation, None), *images, ("payload", envelope | None, None)],
        gc=False,
    )
    decode = msgspec.json.Decoder(bare_or_not).decode

    def see(value: bytes) -> None:
        found: Any = decode(value)
        if found.op is None:
            found = found.payload
        if found is None or (
            found.op != "t" and (found.before if found.op == "d" else found.after) is None
        ):
            raise ValueError("no row image")

    return see


def _row(key: tuple[str, ...]) -> Any:
    """Return the type of an object that has a key's fields."""
    present = Annotated[str, msgspec.Meta(min_length=1)] | int | float | bool
    names = {f"field_{n}": name for n, name in enumerate(key)}
    return msgspec.defstruct("Row", [(n, present) for n in names], rename=names, gc=False)


def _unlike_parsers(values: Sequence[bytes | None], column: pa.Array[Any]) -> set[int]:
    """Return the values that parsers may judge differently: deep ones and those of huge numbers.

    All are found, and now and then another one.
    """
    buffers: list[Any] = column.buffers()  # the stubs do not know what numpy takes
    if not len(column) or buffers[2] is None:
        return set()
    offsets = np.frombuffer(buffers[1], np.int32)[: len(column) + 1]
    text = np.frombuffer(buffers[2], np.uint8)[: offsets[-1]]
    found = set()
    for n in np.flatnonzero(np.diff(offsets) > 2 * _BRACKETS).tolist():
        value = values[n] or b""
        if value.count(b"{") + value.count(b"[") > _BRACKETS:
            found.add(n)
    for start in range(0, len(text), _STEP):
        places = start + _huge_numbers(text[start : start + _STEP + _EXPONENT])
        found.update((np.searchsorted(offsets, places, "right") - 1).tolist())
    long = _are_digits(text[::_STRIDE])
    run = _DIGITS // _STRIDE
    if len(long) >= run:
        is_run = np.logical_and.reduce([long[i : len(long) - run + 1 + i] for i in range(run)])
        places = np.flatnonzero(is_run) * _STRIDE
        found.update((np.searchsorted(offsets, places, "right") - 1).tolist())
    return found


def _are_digits(text: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    result: np.ndarray[Any, Any] = text - ord("0") < 10  # below it wraps around
    return result


def _huge_numbers(text: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return where a digit is followed by an exponent of three digits or more."""
    if len(text) < _EXPONENT:
        return np.zeros(0, np.int64)
    is_e = (text[1:-4] | 32) == ord("e")
    places = np.flatnonzero(is_e & _are_digits(text[:-5]))
    exponents = places + 2 + (text[places + 2] == ord("+"))
    digits = [_are_digits(text[exponents + i]) for i in range(3)]
    result: np.ndarray[Any, Any] = places[np.logical_and.reduce(digits)]
    return result
