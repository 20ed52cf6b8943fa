"""Records and files that this project did not make up: Debezium's own, and a real bank's."""

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ingestion_helpers import bronze_rows, file_feed, kafka_feed, land, quarantine_rows

# Written by Debezium 3.6 for PostgreSQL, in several settings.
EXCERPT = Path(__file__).parents[1] / "data" / "debezium_postgres.jsonl"
BERKA = Path(__file__).parents[3] / "shared" / "data" / "berka"


def samples() -> list[dict[str, Any]]:
    return [json.loads(line) for line in EXCERPT.read_text().splitlines()]


def as_bytes(value: Any) -> bytes | None:
    return None if value is None else json.dumps(value).encode()


def is_change(value: Any) -> bool:
    return value is None or "op" in value.get("payload", value)


def test_debezium_records_land_as_they_were_written(
    broker: str, new_topic: Callable[..., str], lakehouse: Path
) -> None:
    changes = [s for s in samples() if is_change(s["value"])]
    messages = [(as_bytes(s["key"]), as_bytes(s["value"])) for s in changes]
    operations = Counter(
        "tombstone" if s["value"] is None else s["value"].get("payload", s["value"])["op"]
        for s in changes
    )
    assert operations.keys() == {"c", "u", "d", "r", "t", "tombstone"}
    feed = kafka_feed(broker, new_topic(messages), value_format="debezium")
    result = land(feed, lakehouse)
    assert (result.landed, result.rejected) == (len(changes), 0)
    landed = [(r["key"], r["value"]) for r in bronze_rows(lakehouse, "events")]
    assert landed == [(k and k.decode(), v and v.decode()) for k, v in messages]


def test_debezium_records_that_are_no_change_go_to_quarantine(
    broker: str, new_topic: Callable[..., str], lakehouse: Path
) -> None:
    others = [s for s in samples() if not is_change(s["value"])]
    messages = [as_bytes(s["value"]) for s in others]
    assert len(messages) > 3  # heartbeats, transaction boundaries, unwrapped rows
    feed = kafka_feed(broker, new_topic(messages), value_format="debezium")
    result = land(feed, lakehouse)
    assert result.reasons == {"no change event: op is missing": len(messages)}
    assert [r["value"].encode() for r in quarantine_rows(lakehouse)] == messages


@pytest.mark.skipif(not BERKA.is_dir(), reason="the real bank's files are not here: ../shared")
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("account", "account_id"),
        ("card", "card_id"),
        ("client", "client_id"),
        ("disp", "disp_id"),
        ("district", "A1"),
        ("loan", "loan_id"),
        ("order", "order_id"),
    ],
)
def test_the_files_of_a_real_bank_land_row_by_row(lakehouse: Path, name: str, key: str) -> None:
    feed = file_feed(BERKA, "csv", glob=f"{name}.asc", delimiter=";", key=(key,))
    result = land(feed, lakehouse)
    with (BERKA / f"{name}.asc").open(newline="", encoding="ascii") as file:
        expected = list(csv.DictReader(file, delimiter=";"))
    assert (result.landed, result.rejected) == (len(expected), 0)
    landed = bronze_rows(lakehouse)
    assert [json.loads(r["value"]) for r in landed] == expected
    assert [json.loads(r["key"]) for r in landed] == [{key: row[key]} for row in expected]
