"""The rules for a single value."""

import json
import random
import sys
from collections.abc import Mapping, Sequence
from functools import partial

import pyarrow as pa
import pytest

from ingestion.checks import ValueCheck, _unlike_parsers
from ingestion.records import text_headers

ROW = {"id": 1, "name": None}


def envelope(**changes: object) -> bytes:
    """A Debezium envelope of an insert, with changes."""
    return json.dumps({"before": None, "after": ROW, "op": "c", **changes}).encode()


@pytest.mark.parametrize("value", [b"{}", b' {"a": [1]} ', b'{"id":1}'])
def test_json_accepts_objects(value: bytes) -> None:
    assert ValueCheck("json", [])(value) is None


@pytest.mark.parametrize("op", ["c", "u", "r", "i"])
def test_debezium_takes_the_row_from_after(op: str) -> None:
    check = ValueCheck("debezium", ["id"])
    assert check(envelope(op=op)) is None
    assert check(envelope(op=op, after=None)) == f"no row image: after is missing for op {op}"
    assert check(envelope(op=op, after={"id": None})) == "key field 'id' is null"


def test_debezium_takes_the_row_of_a_delete_from_before() -> None:
    check = ValueCheck("debezium", ["id"])
    assert check(envelope(op="d", before=ROW, after=None)) is None
    assert check(envelope(op="d")) == "no row image: before is missing for op d"
    assert check(envelope(op="d", before={})) == "key field 'id' is missing"


def test_debezium_accepts_a_truncate_which_has_no_row() -> None:
    assert ValueCheck("debezium", ["id"])(envelope(op="t", after=None)) is None


def test_debezium_accepts_an_envelope_under_payload() -> None:
    check = ValueCheck("debezium", ["id"])
    inner = json.loads(envelope())
    assert check(json.dumps({"schema": {}, "payload": inner}).encode()) is None
    assert check(json.dumps({"schema": {}, "payload": {**inner, "op": "x"}}).encode()) == (
        "unknown op"
    )
    assert check(b'{"schema":null,"payload":null}') == "no change event: payload is not an object"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"op": "x"}, "unknown op"),
        ({"op": "m"}, "unknown op"),
        ({"op": 1}, "unknown op"),
        ({"op": ["c"]}, "unknown op"),
        ({"op": None}, "no change event: op is missing"),
        ({"after": [1]}, "no row image: after is missing for op c"),
    ],
)
def test_debezium_rejects_what_is_no_change_of_a_row(
    changes: Mapping[str, object], reason: str
) -> None:
    assert ValueCheck("debezium", ["id"])(envelope(**changes)) == reason


@pytest.mark.parametrize("value_format", ["json", "debezium"])
def test_a_reason_holds_nothing_of_the_data(value_format: str) -> None:
    check = ValueCheck(value_format, ["id"])
    for value in (b"secret", b'{"a": secret}', b'{"op":"secret"}', b'"secret"', b"secret\xff"):
        reason = check(value)
        assert reason
        assert "secret" not in reason


def test_text_accepts_any_utf8() -> None:
    assert ValueCheck("text", [])(b"anything") is None
    assert ValueCheck("text", [])(b"\xff") == "the value is not valid UTF-8"


def test_headers_of_one_name_all_stay() -> None:
    assert text_headers([("a", b"1"), ("a#2", b"2"), ("a", b"3"), ("b", None)]) == [
        ("a", "1"),
        ("a#2", "2"),
        ("a#3", "3"),
        ("b", None),
    ]


# --- many at once ---------------------------------------------------------------------------------

# What parsers may judge differently, as a value of a field.
DEPTHS = (900, 1000, 1020, 1021, 1022, 1023, 1024, 1025, 1100, 5000)
DEEP = [
    *("[" * depth + "]" * depth for depth in DEPTHS),
    *('{"a":' * depth + "1" + "}" * depth for depth in DEPTHS),
]
HOSTILE = [
    *("1e999", "-1E+999", "1e308", "1.8e308", "0e999", "1e-999", "9" * 308 + "e2", "9" * 400),
    *("0." + "1" * 999, "01", "-", "-0", "1.", ".5", "1e", "+1", "1-1", "1_0", "0x1", "NaN"),
    *("Infinity", "nul", "tru", "truex", "'a'", "/**/1", "1}", "1,", "", "[1,]", "{}", "[]"),
    *(r'"\ud800"', r'"\udc00"', r'"\ud83d\ude00"', r'"\x"', r'"\u12"', r'"\"', '"\x01"', '"\n"'),
    *('"\x7f"', '""', '"', "null", "true", "0", "0.0", '1,"id":null', '1,"id":2', '"","id":1'),
    *DEEP,
]
SHAPES = [
    '{"id":@}',
    '{"id":1,"x":@}',
    '{"x":{"id":@},"op":"c"}',
    '{"op":"c","before":null,"after":{"id":@,"x":[1,2.5e10,{"y":null}]},"ts_ms":-1.7800e+12}',
    '{"op":"d","after":null,"before":{"id":7,"x":@}}',
    '{"op":"c","after":{"id":1},"source":{"x":"\u00e9\\u00e9","y":@}}',
    '{"schema":{"x":[@]},"payload":{"op":"u","after":{"id":1}}}',
    '{"schema":null,"payload":{"op":"r","after":@}}',
    '{"payload":{"op":"r","after":{"id":1}},"op":@}',
    '{"op":"t","after":@}',
    '{"op":@,"after":{"id":1}}',
    '{"\\u006fp":"c","after":{"\\u0069d":@}}',
    '{"op":"c","after":{"id":1},"after":@}',
    '{"op":"c","after":{"id":@}} ',
    "@",
]
NOISE = [bytes([n]) for n in b'{}[]",:\\/bfnrtu0123456789eE+-. \t\r\n\x00\x1f\x7f']
NOISE += [b"\xc3\xa9", b"\\u", b"\\ud800", b"e999", b'""', b"null", b"1e5", b'"id":', b'"op":"d",']


def at_once(value_format: str, key: Sequence[str], values: Sequence[bytes | None]) -> list[object]:
    """What is said of values that are judged together."""
    reasons = ValueCheck(value_format, key).reasons(values, pa.array(values, pa.binary()))
    return [reasons.get(n) for n in range(len(values))]


def one_by_one(
    value_format: str, key: Sequence[str], values: Sequence[bytes | None]
) -> list[object]:
    check = ValueCheck(value_format, key)
    return [None if value is None else check(value) for value in values]


KEYS = [(), ("id",), ("id", "x"), ('i"d',)]


@pytest.mark.parametrize("value_format", ["json", "debezium", "text"])
@pytest.mark.parametrize("key", KEYS)
def test_hostile_values_are_judged_alike_at_once_and_one_by_one(
    value_format: str, key: Sequence[str]
) -> None:
    values: list[bytes | None] = [
        None,
        b"",
        b"\xef\xbb\xbf{}",
        b'{"id":1}\x00',
        b'{"id":1}{"id":2}',
    ]
    values += [shape.replace("@", hostile).encode() for shape in SHAPES for hostile in HOSTILE]
    said = one_by_one(value_format, key, values)
    assert at_once(value_format, key, values) == said
    assert at_once(value_format, key, [*values, b"\xff"]) == [*said, "the value is not valid UTF-8"]


@pytest.mark.parametrize("value_format", ["json", "debezium"])
def test_damaged_values_are_judged_alike_at_once_and_one_by_one(value_format: str) -> None:
    chance = random.Random(5)
    valid = [shape.replace("@", chance.choice(('{"id":1}', "1", '"c"'))) for shape in SHAPES]
    values: list[bytes | None] = []
    for _ in range(5_000):
        value = bytearray(chance.choice(valid).encode())
        for _ in range(chance.choice((1, 1, 2, 3))):
            at = chance.randrange(len(value) + 1)
            value[at : at + chance.randrange(3)] = chance.choice([b"", *NOISE])
        values.append(bytes(value))
    said = one_by_one(value_format, ["id"], values)
    assert said.count(None) > 50
    assert at_once(value_format, ["id"], values) == said


def test_only_doubtful_values_are_parsed_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(value: bytes) -> None:
        raise AssertionError(value)

    monkeypatch.setattr("ingestion.checks.orjson.loads", parse)
    uuid = {"id": "0f8fad5b-d9cb-469f-a165-70867728950e", "x": "\u00e9"}
    for op, image in [("c", "after"), ("d", "before"), ("t", "x")]:
        value = json.dumps({"op": op, image: uuid}).encode()
        wrapped = json.dumps({"schema": {}, "payload": {"op": op, image: uuid}}).encode()
        values = [value, None, wrapped] * 1_000
        assert at_once("debezium", ["id"], values) == [None] * len(values)
        assert at_once("json", [], values) == [None] * len(values)


def test_no_value_is_deeper_because_python_allows_it(request: pytest.FixtureRequest) -> None:
    """From 3.12 on, and where a program sets its limit higher."""
    request.addfinalizer(partial(sys.setrecursionlimit, sys.getrecursionlimit()))
    sys.setrecursionlimit(20_000)
    values = [f'{{"id":{deep}}}'.encode() for deep in DEEP]
    said = one_by_one("json", [], values)
    assert None in said
    assert at_once("json", [], values) == said


@pytest.mark.parametrize("before", range(0, 60))
def test_huge_numbers_are_found_wherever_they_stand(before: int) -> None:
    """In a column they are looked for at intervals, and in steps."""
    for number in (b"9" * 310, b"1e309", b"1.5E+309"):
        for head in (b" " * before, b" " * (256 * 1024 - before)):
            values = [b"{}", head + b"[%b]" % number, b"{}"]
            assert 1 in _unlike_parsers(values, pa.array(values, pa.binary()))
