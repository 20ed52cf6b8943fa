"""Readers of files: what is good is landed as it was written, what is bad is rejected alone."""

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ingestion import formats
from ingestion.config import FileOptions
from ingestion.formats import Chunk, RejectedText, read_records


class Records(NamedTuple):
    """All chunks of a file put together."""

    positions: list[int]
    keys: list[bytes | None]
    values: list[bytes]
    rejects: list[RejectedText]


def chunks(
    content: bytes, value_format: str, key: Sequence[str] = (), **settings: Any
) -> Iterator[Chunk]:
    name = settings.pop("name", "file")
    options = FileOptions(Path(), **{"max_record_bytes": 10_000, **settings})
    return read_records(io.BytesIO(content), name, value_format, options, key)


def read(content: bytes, value_format: str, key: Sequence[str] = (), **settings: Any) -> Records:
    """Read a whole file."""
    whole = Records([], [], [], [])
    for chunk in chunks(content, value_format, key, **settings):
        whole.positions.extend(chunk.positions.to_pylist())
        whole.keys.extend(k if k is None else k.encode() for k in chunk.keys.to_pylist())
        whole.values.extend(v.encode() for v in chunk.values.to_pylist())
        whole.rejects.extend(chunk.rejects)
    numbers = sorted(whole.positions + [r.position for r in whole.rejects])
    assert numbers == list(range(1, len(numbers) + 1))  # every record has its own number
    return whole


def values(chunk: Records) -> list[str]:
    return [v.decode() for v in chunk.values]


def rejects(chunk: Records) -> list[tuple[int, str, str]]:
    return [(r.position, r.value.decode(errors="replace"), r.reason) for r in chunk.rejects]


# --- NDJSON -------------------------------------------------------------------------------------


def test_ndjson_values_stay_as_they_were_written() -> None:
    found = read(b'\xef\xbb\xbf{"id": 1.50,  "x":[1]}\r\n\n{"id":2}', "ndjson", ["id"])
    assert values(found) == ['{"id": 1.50,  "x":[1]}', '{"id":2}']
    assert found.keys == [b'{"id":1.5}', b'{"id":2}']
    assert rejects(found) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id":', "not valid JSON: unexpected end of data"),
        (b"[1]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b'{"other":1}', "key field 'id' is missing"),
        (b'{"id":null}', "key field 'id' is null"),
        (b'{"id":""}', "key field 'id' is empty"),
        (b'{"id":"\xff"}', "the value is not valid UTF-8"),
        (b'{"id":"' + b"x" * 10_000 + b'"}', "longer than max_record_bytes"),
    ],
)
def test_a_bad_line_is_rejected_alone(line: bytes, reason: str) -> None:
    found = read(b'{"id":1}\n' + line + b'\n{"id":2}\n', "ndjson", ["id"])
    assert values(found) == ['{"id":1}', '{"id":2}']
    assert {r.reason for r in found.rejects} == {reason}
    assert b"".join(r.value for r in found.rejects) == line


def test_a_last_line_that_is_cut_off_is_rejected_as_such() -> None:
    found = read(b'{"id":1}\n{"id":2', "ndjson")
    assert rejects(found) == [(2, '{"id":2', "the file is cut off in the middle of a record")]


# --- CSV ----------------------------------------------------------------------------------------


def test_a_csv_row_becomes_an_object_of_texts() -> None:
    content = b'"id";"note"\r\n"1";"a ""b""; c\r\nd"\r\n\r\n2;\r\n'
    found = read(content, "csv", ["id"], delimiter=";")
    assert [json.loads(v) for v in found.values] == [
        {"id": "1", "note": 'a "b"; c\r\nd'},
        {"id": "2", "note": ""},
    ]
    assert found.keys == [b'{"id":"1"}', b'{"id":"2"}']
    assert rejects(found) == []


def test_a_byte_order_mark_is_not_part_of_the_first_name() -> None:
    assert values(read(b"\xef\xbb\xbfid\n1\n", "csv")) == ['{"id":"1"}']


def test_tsv_takes_quotes_and_commas_as_they_come() -> None:
    found = read(b'id\tnote\n1\ta,b\n2\t5" pipe\n', "tsv", delimiter="\t")
    assert values(found) == ['{"id":"1","note":"a,b"}', '{"id":"2","note":"5\\" pipe"}']


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"1,2", "2 columns, the header has 3"),
        (b"1", "1 column, the header has 3"),
        (b"1,2,3,4", "4 columns, the header has 3"),
        (b'"",2,3', "key field 'id' is empty"),
        (b'1,"a"b,3', "not valid CSV: ',' expected after '\"'"),
        (b"1,\xff,3", "the value is not valid UTF-8"),
        (b'1,"open,3', "a quoted field is not closed"),
        (b"1," + b"x" * 10_000 + b",3", "longer than max_record_bytes"),
    ],
)
def test_a_bad_row_is_rejected_alone(row: bytes, reason: str) -> None:
    found = read(b"id,b,c\n7,8,9\n" + row + b"\n4,5,6\n", "csv", ["id"])
    assert values(found) == ['{"id":"7","b":"8","c":"9"}', '{"id":"4","b":"5","c":"6"}']
    assert {r.reason for r in found.rejects} == {reason}
    assert b"".join(r.value for r in found.rejects) == row


def test_a_stray_quote_costs_its_line_and_no_other() -> None:
    good = [f"{i},b,c" for i in range(2_500)]
    lines = [*good[:10], '10,"stray,c', *good[11:]]
    found = read("\n".join(["id,b,c", *lines, ""]).encode(), "csv")
    assert len(found.values) == 2_499
    assert rejects(found) == [(11, '10,"stray,c', "a quoted field is not closed")]


def test_a_stray_quote_before_quoted_rows_costs_its_line_and_no_other() -> None:
    found = read(b'"id";"b"\n"1";"a\n"2";"b"\n"3";"c"\n', "csv", delimiter=";")
    assert values(found) == ['{"id":"2","b":"b"}', '{"id":"3","b":"c"}']
    assert [(n, v) for n, v, _ in rejects(found)] == [(1, '"1";"a')]


def test_a_quoted_field_over_too_many_lines_is_rejected() -> None:
    lines = b"\n" * formats.MAX_LINES_PER_ROW
    found = read(b'id,b\n1,2\n3,"' + lines + b'"\n4,5\n', "csv")
    assert '{"id":"1","b":"2"}' in values(found)
    assert rejects(found)[0] == (2, '3,"', "a quoted field is not closed")


def test_a_file_cut_off_inside_quotes_keeps_the_rows_before() -> None:
    found = read(b'id,note\n1,"a"\n2,"cut', "csv")
    assert values(found) == ['{"id":"1","note":"a"}']
    assert rejects(found) == [(2, '2,"cut', "a quoted field is not closed")]


def test_a_row_of_several_lines_without_its_key_is_rejected_whole() -> None:
    found = read(b'id,note\n,"a\nb"\n1,c\n', "csv", ["id"])
    assert rejects(found) == [(1, ',"a\nb"', "key field 'id' is empty")]
    assert values(found) == ['{"id":"1","note":"c"}']


def test_a_header_that_cannot_be_used_rejects_itself_and_every_row() -> None:
    for header, fault in ((b"a,a", "a column name stands twice"), (b"\xff", "not valid UTF-8")):
        found = read(header + b"\n1,2\n3,4\n", "csv")
        assert found.values == []
        assert [n for n, _, _ in rejects(found)] == [1, 2, 3]
        assert all(
            r.startswith("the header cannot be used: ") and r.endswith(fault)
            for _, _, r in rejects(found)
        )


# --- JSON documents -----------------------------------------------------------------------------


def test_elements_of_an_array_are_landed_compact_with_their_numbers_as_written() -> None:
    first = b'{"id": 1.10,\n   "s": "a  \\" ] } b"}'
    content = b"\xef\xbb\xbf [\n  " + first + b',\n  {"id":2, "o": {"x": [ 1 ]}}\n]\n'
    found = read(content, "json_document", ["id"])
    assert values(found) == ['{"id":1.10,"s":"a  \\" ] } b"}', '{"id":2,"o":{"x":[1]}}']
    assert rejects(found) == []


def test_a_document_may_be_one_object() -> None:
    assert values(read(b'{\n "id": 1\n}\n', "json_document")) == ['{"id":1}']


@pytest.mark.parametrize("content", [b"", b" \n", b"[]", b" [ ]\n"])
def test_a_document_without_elements_has_no_record(content: bytes) -> None:
    found = read(content, "json_document")
    assert (found.values, found.rejects) == ([], [])


@pytest.mark.parametrize(
    ("element", "reason"),
    [
        (b'{"id": x}', "not valid JSON: unexpected character, expected a JSON value"),
        (b'{"id": 1 "a": 2}', "not valid JSON: "),
        (b'{"a":1}', "key field 'id' is missing"),
        (b'{"id":"\xff"}', "the value is not valid UTF-8"),
        (b"17", "not a JSON object"),
        (b'"a"', "not a JSON object"),
        (b"[1]", "not a JSON object"),
    ],
)
def test_a_bad_element_is_rejected_alone(element: bytes, reason: str) -> None:
    found = read(b'[{"id":1}, ' + element + b', {"id":2}]', "json_document", ["id"])
    assert values(found) == ['{"id":1}', '{"id":2}']
    assert [r.value for r in found.rejects] == [element]
    assert found.rejects[0].position == 2
    assert found.rejects[0].reason.startswith(reason)


@pytest.mark.parametrize("rest", [b'{"id":3, "x": [1, "cut', b'{"id":3', b"", b"\n"])
def test_of_an_array_cut_off_the_elements_before_land_and_the_rest_is_one_reject(
    rest: bytes,
) -> None:
    found = read(b'[{"id":1},{"id":2},' + rest, "json_document")
    assert values(found) == ['{"id":1}', '{"id":2}']
    assert [r.reason for r in found.rejects] == ["the file is cut off in the middle of a record"]


@pytest.mark.parametrize("content", [b"hello", b"17", b'"text"', b"\xff\xfe"])
def test_what_is_no_document_is_one_reject(content: bytes) -> None:
    found = read(content, "json_document")
    assert found.values == []
    assert len(found.rejects) == 1


def test_text_after_the_document_is_one_reject() -> None:
    found = read(b'{"id":1}\n{"id":2}\n', "json_document")
    assert values(found) == ['{"id":1}']
    assert rejects(found) == [(2, '\n{"id":2}\n', "text after the end of the document")]


def test_a_document_reads_the_same_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b'[ {"id":1,"s":"a\\\\\\"]"} , 5, {"id":[{"x":2}]}, {"id":y},{"id":3}]  tail'
    expected = read(content, "json_document")
    assert len(expected.values) == 3
    assert len(expected.rejects) == 3
    for size in range(1, len(content)):
        monkeypatch.setattr(formats, "_BLOCK_BYTES", size)
        assert read(content, "json_document") == expected


def test_an_element_that_is_too_long_is_rejected_in_pieces_and_nothing_is_lost() -> None:
    long = b'{"id":"' + b"x" * 3_000_000 + b'"}'
    found = read(b'[{"id":1},' + long + b"]", "json_document", max_record_bytes=100_000)
    assert values(found) == ['{"id":1}']
    assert max(len(r.value) for r in found.rejects) == 100_000
    assert b"".join(r.value for r in found.rejects) == long + b"]"
    assert {r.reason for r in found.rejects} == {"longer than max_record_bytes"}


@pytest.mark.parametrize("value_format", ["csv", "ndjson", "json_document"])
def test_a_long_file_comes_in_chunks(value_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_BLOCK_BYTES", 100)
    objects = [b'{"id":%d}' % i for i in range(25)]
    content = {
        "csv": b"id,n\n" + b"".join(b"%d,2\n" % i for i in range(25)),
        "ndjson": b"\n".join(objects),
        "json_document": b"[" + b",".join(objects) + b"]",
    }[value_format]
    sizes = [len(c.values) for c in chunks(content, value_format)]
    assert sum(sizes) == 25
    assert max(sizes) < 25
