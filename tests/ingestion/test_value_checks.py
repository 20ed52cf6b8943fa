"""The rules for a single value."""

import json
from collections.abc import Mapping

import pytest

from ingestion.records import text_headers, value_check

ROW = {"id": 1, "name": None}


def envelope(**changes: object) -> bytes:
    """A Debezium envelope of an insert, with changes."""
    return json.dumps({"before": None, "after": ROW, "op": "c", **changes}).encode()


@pytest.mark.parametrize("value", [b"{}", b' {"a": [1]} ', b'{"id":1}'])
def test_json_accepts_objects(value: bytes) -> None:
    assert value_check("json", [])(value) is None


@pytest.mark.parametrize("op", ["c", "u", "r", "i"])
def test_debezium_takes_the_row_from_after(op: str) -> None:
    check = value_check("debezium", ["id"])
    assert check(envelope(op=op)) is None
    assert check(envelope(op=op, after=None)) == f"no row image: after is missing for op {op}"
    assert check(envelope(op=op, after={"id": None})) == "key field 'id' is null"


def test_debezium_takes_the_row_of_a_delete_from_before() -> None:
    check = value_check("debezium", ["id"])
    assert check(envelope(op="d", before=ROW, after=None)) is None
    assert check(envelope(op="d")) == "no row image: before is missing for op d"
    assert check(envelope(op="d", before={})) == "key field 'id' is missing"


def test_debezium_accepts_a_truncate_which_has_no_row() -> None:
    assert value_check("debezium", ["id"])(envelope(op="t", after=None)) is None


def test_debezium_accepts_an_envelope_under_payload() -> None:
    check = value_check("debezium", ["id"])
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
    assert value_check("debezium", ["id"])(envelope(**changes)) == reason


@pytest.mark.parametrize("value_format", ["json", "debezium"])
def test_a_reason_holds_nothing_of_the_data(value_format: str) -> None:
    check = value_check(value_format, ["id"])
    for value in (b"secret", b'{"a": secret}', b'{"op":"secret"}', b'"secret"', b"secret\xff"):
        reason = check(value)
        assert reason
        assert "secret" not in reason


def test_text_accepts_any_utf8() -> None:
    assert value_check("text", [])(b"anything") is None
    assert value_check("text", [])(b"\xff") == "the value is not valid UTF-8"


def test_headers_of_one_name_all_stay() -> None:
    assert text_headers([("a", b"1"), ("a#2", b"2"), ("a", b"3"), ("b", None)]) == [
        ("a", "1"),
        ("a#2", "2"),
        ("a#3", "3"),
        ("b", None),
    ]
