"""Blocks of lines that are read at once: exactly what reading line by line gives."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
from test_file_formats import Records, read

from ingestion import formats
from ingestion.blocks import ahead, read_objects

# What a parser may reject, or read otherwise than it stands there; by itself, and in a line.
HOSTILE_VALUES = [
    *(
        '"\\u00e9"',
        '"\\ud800"',
        '"\\udfff"',
        '"\\u00g0"',
        '"\\x"',
        '"\\"',
        '"\\"id":2"',
        '"\\""',
        '"\t"',
        '"\x00"',
        '"\x7f"',
        '"\u2028"',
        '"\ufeff"',
        '""',
    ),
    *("-0", "01", "+1", ".5", "1.", "1e400", "-1.0e+07", "9" * 18, "9" * 19, "9" * 400, "0x1"),
    *(f'"{"k" * length}"' for length in (60, 61, 62, 63, 100)),
    *("NaN", "Infinity", "-Infinity", "nul", "True", "", "'x'", '"', '"a', '1,"id":2', "1,", "1}"),
    *("[]", "[1]", "{}", '{"id":1}', '{"b":{"c":null}}', "[" * 2000, '{"x":' * 1200 + "1"),
]
HOSTILE_LINES = [
    *("", "  ", "5", "null", '"x"', '["id"]', "{", "}", "{}", "\ufeff{}", '{"id":1}{"id":2}'),
    *('{"id":1} ', ' {"id":1}', '{"id":1},', '{"id":1,}', '{"id":1}//', '{"id":1,"id":2}'),
    *('{"id":\n1}', '{"id":1\r}', '{"id":1}\r', '{"id":1}\r\r', '{"a":{"id":1}}', '{"id" :1}'),
    *('{"ID":1}', '{"\\u0069d":1}', '{"id":1,"b":"x","c":1}', '{"b":"x","id":1}', '{"id":null}'),
]
PLAIN_NAMES = ("b", "c d", "a.b", "$", "")
NAMES = (*PLAIN_NAMES, "id", "é", ",", ":")


@pytest.fixture(autouse=True)
def every_block_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_SMALLEST_BLOCK", 0)


def line(names: Sequence[str], values: Sequence[object], colon: str = ":") -> str:
    return "{" + ",".join(f'"{n}"{colon}{v}' for n, v in zip(names, values, strict=True)) + "}"


def one_by_one(monkeypatch: pytest.MonkeyPatch, *arguments: Any, **settings: Any) -> Records:
    with monkeypatch.context() as patch:
        patch.setattr(formats, "read_objects", lambda *_: None)
        return read(*arguments, **settings)


def test_lines_of_one_shape_are_read_at_once() -> None:
    block = (
        b'{"b":"x","id":"k 1","c":{"d": null, "e": 1.5}}\n'
        b'{"b":null,"id":"\xc3\xa9","c":{"d":"\\"id\\":\\"\\u00e9\\\\","e":-1e5}}\r\n'
    )
    found = read_objects(block, ["id", "b"])
    assert found is None  # part of the key is null
    found = read_objects(block, ["id"])
    assert found is not None
    assert found.values.to_pylist() == block.decode().replace("\r\n", "\n").split("\n")[:-1]
    assert found.keys.to_pylist() == ['{"id":"k 1"}', '{"id":"é"}']
    assert found.names == ("b", "id", "c")
    numbers = read_objects(b'{"n":7,"id":"a"}\n{"n":-8,"id":"b"}\n', ["id", "n"])
    assert numbers is not None
    assert numbers.keys.to_pylist() == ['{"id":"a","n":7}', '{"id":"b","n":-8}']


@pytest.mark.parametrize(
    "text",
    [
        *('{"id":""}', '{"id":null}', '{"id":1.0}', '{"id":-0}', '{"id":01}', '{"id":true}', "{}"),
        *('{"id":"a","c":{"id":"b"}}', '{"c":{"id":"b"}}', '{"id":{"c":"b"}}', '{"id":"a","c":[]}'),
        *('{"id":"\\n"}', '{"id":"a","c":"\t"}', '{"id":"a","id":"a"}', '{"id":"a","é":1}', "[]"),
        *(
            f'{{"id":"a","c":{"9" * 19}}}',
            '{"id":"a","c":1e400}',
            '{"id":"a","c":NaN}',
            '{"id":"a",}',
        ),
    ],
)
def test_lines_with_any_doubt_are_not_read_at_once(text: str) -> None:
    assert read_objects(f"{text}\n".encode() * 2, ["id"]) is None


@pytest.mark.parametrize("place", [0, 2])
def test_what_is_hostile_is_judged_as_line_by_line(
    place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line(("id", "b"), (f'"k{n}"', '"x"')) for n in range(4)]
    hostile = [line(("id", "b"), (f'"k{n}"', v)) for n, v in enumerate(HOSTILE_VALUES)]
    hostile += [line(("id", "b"), (v, '"x"')) for v in HOSTILE_VALUES] + HOSTILE_LINES
    for text in hostile:
        content = "".join(f"{x}\n" for x in (*lines[:place], text, *lines[place:])).encode()
        assert read(content, "ndjson", ["id"]) == one_by_one(monkeypatch, content, "ndjson", ["id"])
    for byte in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xc3"):
        content = b'{"id":"a"}\n{"id":"b%b"}\n{"id":"c"}\n' % byte
        found = read(content, "ndjson", ["id"])
        assert found == one_by_one(monkeypatch, content, "ndjson", ["id"])
        assert [r.reason for r in found.rejects] == ["the value is not valid UTF-8"]


def test_random_files_are_read_as_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(7)
    at_once: list[bool] = []

    def counted(block: bytes, key: Sequence[str]) -> object:
        found = read_objects(block, key)
        at_once.append(found is not None)
        return found

    monkeypatch.setattr(formats, "read_objects", counted)
    plain = ['"x"', '"a b"', '"é"', "1", "-20", "1.5", "true", "null"]
    for _ in range(1500):
        names = draw.sample(PLAIN_NAMES if draw.random() < 0.8 else NAMES, draw.randrange(4))
        names.insert(draw.randrange(len(names) + 1), "id")
        lines = []
        for _ in range(draw.randrange(1, 12)):
            values = [draw.choice(plain[:5] if name in ("id", "b") else plain) for name in names]
            if draw.random() < 0.02:
                values[draw.randrange(len(values))] = draw.choice(HOSTILE_VALUES)
            text = line(names, values, draw.choice((":", ": ")))
            lines.append(draw.choice(HOSTILE_LINES) if draw.random() < 0.01 else text)
        content = bytearray("".join(f"{text}\n" for text in lines).encode())
        if draw.random() < 0.2:
            content[draw.randrange(len(content))] = draw.choice(b'"\\{}:,\n\r\t 0\x00\x80\xffe.')
        key = draw.choice([(), ("id",), ("id",), ("id", "b"), (",",), (":",), ("é",)])
        monkeypatch.setattr(formats, "_BLOCK_BYTES", draw.choice((60, 300, 10_000)))
        arguments = (bytes(content), "ndjson", key)
        assert read(*arguments) == one_by_one(monkeypatch, *arguments)
    assert sum(at_once) > 500


def test_items_come_in_their_order_with_what_was_made_of_them() -> None:
    for count in (0, 1, 2, 10):
        assert list(ahead(lambda n: -n, range(count))) == [(n, -n) for n in range(count)]
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda n: 1 // n, [2, 1, 0, 1]))
