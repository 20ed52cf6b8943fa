"""Records of every source format become the change rows that silver reads."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

from tests.staging import records

Rows = Callable[..., list[tuple[Any, ...]]]
Reasons = Callable[[str], Mapping[int, str]]


def position(feed: str, source: str, number: int = 0) -> int:
    """Where the records of one source stand in a feed of bronze."""
    return [i for i, record in enumerate(records.BRONZE[feed]) if record[0] == source][number]


def micros(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000


def test_every_format_gives_the_change_columns(formats: Any) -> None:
    expected = [
        "_op", "_is_deleted", "_sequence", "_changed_at", "_reject_reason", "_broken_rules",
        "_rejected_value", "_feed", "batch_id", "_source", "_partition", "_position",
        "_source_timestamp", "_ingested_at",
    ]  # fmt: skip
    views = formats.query(
        "select table_name, list(column_name order by ordinal_position) from"
        " information_schema.columns where table_schema = 'formats' group by all"
    )
    assert len(views) == 18
    for view, columns in views:
        assert columns[-len(expected) :] == expected, view
        undecided = f"select count(*) from formats.{view} where _is_deleted is null"
        assert formats.query(undecided) == [(0,)], view


# --- Debezium: PostgreSQL -------------------------------------------------------------------------


def test_a_delete_of_postgresql_keeps_its_key_and_nothing_that_debezium_made_up(
    changes: Rows,
) -> None:
    deletes = changes(
        "postgresql",
        ["id", "name", "active", "created_at", "_has_big"],
        "_op = 'd' and _source = 'C'",
    )
    invented = [value["before"] for value in records.CUSTOMERS["C"] if value["op"] == "d"]
    assert [(b["id"], b["name"], b["active"]) for b in invented] == [(3, "", True), (2, "", True)]
    assert deletes == [(3, None, None, None, True), (2, None, None, None, True)]


def test_a_change_of_the_key_is_a_delete_and_a_create_at_one_position(changes: Rows) -> None:
    rows = changes("postgresql", ["id", "_op", "_sequence"], "_source = 'C' and id in (3, 30)")
    assert rows[-2:] == [(3, "d", 35714856), (30, "c", 35714856)]


def test_the_log_position_orders_changes_that_share_their_time(changes: Rows) -> None:
    rows = changes("postgresql", ["_changed_at", "_sequence", "_op"], "_source = 'C' and id = 1")
    transaction = rows[1:4]
    assert len({at for at, *_ in transaction}) == 1
    assert [s for _, s, _ in rows] == sorted({s for _, s, _ in rows})
    snapshot = changes("postgresql", ["_sequence"], "_source = 'C' and _op = 'r'")
    assert len(snapshot) == 2 and len(set(snapshot)) == 1


def test_an_unchanged_large_value_is_marked_and_never_read(changes: Rows, reasons: Reasons) -> None:
    rows = changes("postgresql", ["id", "_op", "_has_big", "big"], "_source = 'C'")
    assert (3, "u", False, None) in rows and (30, "c", False, None) in rows
    assert next(r for r in rows if r[1] == "c" and r[2])[3].startswith("AAAA")
    # Where `large` does not list it.
    undeclared = reasons("postgresql_truncates")
    assert undeclared[position("postgresql", "A", 3)] == (
        "big is an unchanged large value: list it in large"
    )


def test_values_have_their_types_in_every_form_that_debezium_writes(changes: Rows) -> None:
    columns = ["id", "balance", "active", "birth", "created_at"]
    at = datetime(2026, 1, 2, 3, 4, 5, 123456)
    expected = [
        (1, Decimal("100.2500"), True, date(1990, 5, 6), at),
        (2, Decimal("-0.0100"), False, None, at),
    ]
    # ISO texts, and days and microseconds since the epoch.
    assert changes("postgresql", columns, "_source = 'C' and _op = 'r'") == expected
    base64 = changes("postgresql_truncates", columns, "_source = 'A' and _op = 'r'")
    assert base64 == expected


def test_base64_decimals_are_what_the_same_decimals_are_as_text(changes: Rows) -> None:
    # The column's scale changes later: bytes do not say so, texts do.
    until = 8
    texts = [(v["after"] or {}).get("balance") for v in records.CUSTOMERS["C"][:until]]
    assert "12345678901234.56" in texts and "-0.01" in texts
    decoded = changes("postgresql_truncates", ["balance"], "_source = 'A'")[:until]
    assert [None if text is None else Decimal(text) for text in texts] == [d for (d,) in decoded]


def test_base64_where_text_is_declared_is_rejected_and_the_other_way_round(
    changes: Rows, reasons: Reasons
) -> None:
    assert reasons("postgresql")[position("postgresql", "A")] == (
        "balance is not of type decimal(18,4)"
    )
    assert reasons("postgresql_truncates")[position("postgresql", "C")] == (
        "balance is not of type decimal(18,2) base64"
    )


def test_an_envelope_under_payload_is_the_bare_one(changes: Rows) -> None:
    columns = ["id", "name", "created_at", "_op", "_is_deleted", "_sequence", "_changed_at"]
    wrapped = changes("postgresql", columns, "_source = 'B'")
    assert len(wrapped) == len(records.CUSTOMERS["B"]) and wrapped[0][0] is not None
    assert wrapped == changes("postgresql", columns, "_source = 'B bare'")


def test_a_truncate_is_rejected_unless_asked_for(changes: Rows, reasons: Reasons) -> None:
    at = position("postgresql", "truncate")
    assert reasons("postgresql")[at] == "truncate: no rule for truncates is set for this table"
    columns = ["id", "name", "_op", "_is_deleted", "_sequence", "_reject_reason"]
    lsn = records.TRUNCATE["source"]["lsn"]
    assert changes("postgresql_truncates", columns, f"_position = {at}") == [
        (None, None, "t", False, lsn, None)
    ]
    unordered = position("postgresql", "broken", 8 - 1)
    assert reasons("postgresql_truncates")[unordered] == "the sequence is missing"


def test_records_that_cannot_be_used_stay_with_their_reason_and_text(
    changes: Rows, reasons: Reasons
) -> None:
    found = reasons("postgresql")
    first = position("postgresql", "broken")
    assert [found.get(first + i) for i in range(7)] == [
        "not a JSON document",
        "unknown operation",
        "no row image",
        "key id is missing",
        "the sequence is missing",
        "balance is not of type decimal(18,4)",
        "created_at is not of type timestamp",
    ]
    ((text,),) = changes("postgresql", ["_rejected_value"], f"_position = {first + 1}")
    assert json.loads(text) == records.POSTGRESQL[first + 1][2]
    everything = changes("postgresql", ["_position"])
    # All but the tombstone, which repeats a delete.
    assert len(everything) == len(records.POSTGRESQL) - 1


# --- Debezium: MySQL, SQL Server, MongoDB ---------------------------------------------------------


def test_mysql_is_ordered_by_file_number_position_and_row(changes: Rows) -> None:
    rows = changes("mysql", ["_source", "_sequence"], "_reject_reason is null", order="_sequence")
    assert [source for source, _ in rows if source not in ("next server", "unknown server")] == [
        "snapshot",  # before the first change at the position where it was taken
        "create",
        "update",
        "second row of the event",
        "delete",
        "next file",
        "truncate",
        "seven digits",  # as text it would come first
    ]
    sequences: dict[str, Any] = dict(rows)
    assert sequences["create"] == {"server": 0, "file": 3, "pos": 154, "row": 0}
    assert sequences["snapshot"] == {"server": 0, "file": 3, "pos": 154, "row": -1}


def test_the_changes_of_mysqls_documentation(changes: Rows, reasons: Reasons) -> None:
    columns = ["id", "first_name", "_op", "_is_deleted", "_changed_at"]
    documented = "_source in ('create', 'update', 'delete')"
    at = datetime(2016, 6, 10, 18, 5, 2, 300000)
    assert changes("mysql", columns, documented) == [
        (1004, "Anne", "c", False, at),
        (1004, "Anne Marie", "u", False, at),
        (1004, None, "d", True, at),
    ]
    assert changes("mysql", ["id", "_op", "_reject_reason"], "_source = 'truncate'") == [
        (None, "t", None)
    ]
    assert reasons("mysql") == {position("mysql", "no file"): "the sequence is missing"}


def test_mysql_servers_follow_each_other_in_the_order_given(
    changes: Rows, reasons: Reasons
) -> None:
    # Its files are numbered from the start again: without `servers` its change is the oldest.
    oldest = changes("mysql", ["_source"], "_reject_reason is null", order="_sequence")[0]
    assert oldest[0] in ("next server", "unknown server")
    newest = changes("mysql_servers", ["_source"], "_reject_reason is null", order="_sequence")[-1]
    assert newest == ("next server",)
    assert reasons("mysql_servers")[position("mysql", "unknown server")] == (
        "a server that is not listed in servers"
    )


def test_sql_server_is_ordered_by_commit_change_and_serial_number(
    changes: Rows, reasons: Reasons
) -> None:
    rows = changes(
        "sqlserver", ["_source", "id", "email", "_op"], "_reject_reason is null", order="_sequence"
    )
    assert rows == [
        ("snapshot", 1005, "john.doe@example.org", "r"),
        ("same commit", 1005, "john.doe@example.org", "u"),
        ("create", 1005, "john.doe@example.org", "c"),
        ("update", 1005, "noreply@example.org", "u"),
        ("delete", 1005, None, "d"),
    ]
    ((snapshot,),) = changes("sqlserver", ["_sequence"], "_op = 'r'")
    assert snapshot == {
        "commit_lsn": "00000025:00000d98:00a2", "change_lsn": "", "event_serial_no": 0
    }  # fmt: skip
    assert list(reasons("sqlserver").values()) == ["the sequence is missing"]


def test_mongodb_documents_become_rows_with_the_key_of_the_message(changes: Rows) -> None:
    columns = ["_id", "first_name", "visits", "balance", "seen_at", "address", "_op", "_sequence"]
    at = datetime(2026, 7, 3, 17, 59, 45, 729000)
    oid = "596e275826f08b2730779e1f"

    def sequence(number: int) -> dict[str, int]:
        return {"ts_ms": 1558965508000, "ord": number}

    rows = changes("mongodb", columns, "_reject_reason is null")
    assert [row[:4] for row in rows[:2]] == [
        ("1004", "Anne", None, None),
        (oid, "Bo", 3, Decimal("10.25")),
    ]
    assert rows[1][4] == at and json.loads(rows[1][5]) == {"city": "Ulm"}
    assert [(row[0], row[4]) for row in rows[2:4]] == [("a-1", at), ("a-1", at)]
    assert rows[4] == (oid, None, None, None, None, None, "d", sequence(6))
    assert [row[-1] for row in rows] == [sequence(n) for n in (31, 1, 2, 3, 6)]


def test_mongodb_changes_without_document_order_or_key_are_rejected(reasons: Reasons) -> None:
    start = position("mongodb", "no document")
    found = reasons("mongodb")
    assert [found[start + i] for i in range(5)] == [
        "no document: set capture.mode=change_streams_update_full, or it was deleted since",
        "the document is no JSON object with an _id",
        "the sequence is missing",
        "key _id is missing",
        "visits is not of type bigint",
    ]


# --- Debezium, unwrapped --------------------------------------------------------------------------


def test_unwrapped_records_are_the_envelopes_of_the_same_changes(changes: Rows) -> None:
    # Both were written of the same statements, in two runs.
    columns = ["id", "name", "active", "birth", "_op", "_is_deleted", "_has_big"]
    unwrapped = changes("unwrapped", columns, "_source = 'real'")
    assert len(unwrapped) == 13
    assert unwrapped == changes("postgresql", columns, "_source = 'C'")
    sequences = [s for (s,) in changes("unwrapped", ["_sequence"], "_source = 'real'")]
    assert all(earlier <= later for earlier, later in pairwise(sequences))


def test_an_unwrapped_delete_keeps_its_key_only(changes: Rows) -> None:
    rows = changes("unwrapped", ["id", "name", "active", "created_at"], "_is_deleted")
    assert rows == [(3, None, None, None), (2, None, None, None)]


def test_an_unwrapped_record_says_which_setting_it_lacks(changes: Rows, reasons: Reasons) -> None:
    found = reasons("unwrapped")
    assert found[position("unwrapped", "tombstone")] == (
        "a tombstone without position: set delete.tombstone.handling.mode=rewrite"
    )
    assert found[position("unwrapped", "no operation")] == "no __op: add op to add.fields"
    assert found[position("unwrapped", "no position")] == (
        "no position: add source.lsn to add.fields"
    )
    columns = ["_op", "_sequence"]
    assert changes("unwrapped", columns, "_source = 'documented'") == [("c", 123456789)]
    assert changes("unwrapped", columns, "_source = 'only __deleted'") == [("u", 40292344)]


def test_unwrapped_mysql_has_the_sequence_of_its_envelopes(changes: Rows, reasons: Reasons) -> None:
    rows = changes("unwrapped_mysql", ["_source", "_sequence"])
    assert rows[0] == ("update", {"server": 0, "file": 3, "pos": 484, "row": 0})
    assert len(rows) == 2, "the tombstone is to be ignored"
    assert list(reasons("unwrapped_mysql").values()) == [
        "no position: add source.server_id,source.file,source.pos,source.row to add.fields"
    ]


# --- Tables of partners ---------------------------------------------------------------------------


def test_fivetran_soft_deletes_are_deletes_ordered_by_the_sync(changes: Rows) -> None:
    columns = ["id", "name", "balance", "_op", "_sequence", "batch_id", "_reject_reason"]
    first = micros(records.minutes(0))
    minute = 60_000_000
    assert changes("fivetran_soft_delete", columns) == [
        (1, "Ann", Decimal("10.50"), "u", first, first, None),
        (2, None, None, "d", first + minute, first + minute, None),
        (3, "Cy", Decimal("1.23"), "u", first + 2 * minute, first + 2 * minute,
         "balance is not of type decimal(18,2)"),
        (None, "Di", Decimal("1.00"), "u", first + 3 * minute, first + 3 * minute,
         "key id is missing"),
    ]  # fmt: skip
    ((value,),) = changes("fivetran_soft_delete", ["_rejected_value"], "id = 3")
    assert json.loads(value)["balance"] == "1.2345"


def test_fivetran_history_gives_every_version_and_the_end_of_the_last(changes: Rows) -> None:
    columns = ["id", "name", "_op", "_sequence", "batch_id"]

    def sequence(minute: int, is_start: int) -> dict[str, int]:
        return {"at": micros(records.minutes(minute)), "is_start": is_start}

    assert changes("fivetran_history", columns, order="id, _sequence") == [
        (1, "Ann", "u", sequence(0, 1), micros(records.minutes(6))),
        (1, None, "d", sequence(5, 0), micros(records.minutes(6))),
        (1, "Ann2", "u", sequence(5, 1), micros(records.minutes(6))),
        (2, "Bob", "u", sequence(1, 1), micros(records.minutes(2))),
        # Not before the end itself, so that a reader after the first sync sees it.
        (2, None, "d", sequence(7, 0), micros(records.minutes(7)) - 1000),
    ]
    positions = changes("fivetran_history", ["_position"])
    assert len(set(positions)) == 5


def test_airbyte_rows_are_ordered_by_the_log_and_say_what_was_lost(changes: Rows) -> None:
    columns = ["id", "name", "balance", "_op", "_sequence", "_reject_reason"]
    assert changes("airbyte", columns, order="batch_id, _sequence") == [
        (1, "Ann", Decimal("10.25"), "u", 26718096, None),
        (1, "Ann2", Decimal("10.25"), "u", 26718632, None),
        (1, None, None, "d", 26719312, None),
        (2, "Bob", None, "u", 26719608, "Airbyte nulled a value: see _airbyte_meta"),
        (3, "Cy", None, "u", None, "the sequence is missing"),
    ]
    mysql = changes("airbyte_mysql", ["name", "_sequence", "_reject_reason"])
    assert mysql[1] == (
        "Ann2", {"_ab_cdc_log_file": "binlog.000004", "_ab_cdc_log_pos": 4}, None
    )  # fmt: skip
    assert mysql[2][1:] == (None, "the sequence is missing")


def test_confluent_rows_are_ordered_by_the_offset(changes: Rows) -> None:
    columns = ["id", "name", "_has_big", "_op", "_sequence", "_reject_reason"]
    assert changes("confluent", columns) == [
        (1, "Ann", True, "c", 10, None),
        (1, "Ann2", False, "u", 11, None),
        (1, None, True, "d", 12, None),
        (2, "Bob", True, "u", 3, None),
        (3, "Cy", True, None, 4, "unknown operation"),
    ]
    address = ["_source", "_partition", "_position", "batch_id", "_changed_at"]
    (first, *_) = changes("confluent", address)
    at = datetime(2026, 5, 28, 20, 26, 40)
    assert first == ("bank.customers", 2, 10, micros(records.minutes(0)), at)


# --- AWS DMS and plain rows -----------------------------------------------------------------------


def test_dms_files_give_the_changes_of_its_documentation(changes: Rows, reasons: Reasons) -> None:
    columns = ["id", "city", "salary", "_op", "_sequence"]
    pay = Decimal("10.50")
    assert changes(
        "dms_files", columns, "_reject_reason is null", order="_sequence, _position"
    ) == [
        (101, "New York", pay, "r", ""),
        (101, "New York", pay, "r", ""),
        (101, "New York", pay, "c", "20140604120000000000000000000000001"),
        (101, "Los Angeles", pay, "u", "20151008120000000000000000000000002"),
        (101, "Dallas", None, "u", "20170313120000000000000000000000003"),
        (101, None, None, "d", "20170313120000000000000000000000004"),
    ]
    assert reasons("dms_files") == {
        6: "no transact_id: add a column with $AR_H_CHANGE_SEQ to the task",
        7: "unknown operation",
        8: "salary is not of type decimal(18,2)",
    }
    ((at,),) = changes("dms_files", ["_changed_at"], "_position = 3")
    assert at == datetime(2015, 10, 8, 12, tzinfo=UTC).replace(tzinfo=None)


def test_dms_rows_of_a_table_are_those_of_its_files(changes: Rows) -> None:
    columns = ["id", "city", "_op", "_is_deleted", "_sequence", "batch_id"]
    assert changes("dms_table", columns) == [
        (101, "New York", "r", False, "", micros(records.minutes(0))),
        (101, "Dallas", "u", False, "20170313120000000000000000000000003",
         micros(records.minutes(1))),
        (101, None, "d", True, "20170313120000000000000000000000004", micros(records.minutes(2))),
    ]  # fmt: skip


def test_plain_rows_do_what_their_operation_is_mapped_to(changes: Rows, reasons: Reasons) -> None:
    columns = ["branch", "id", "amount", "_op", "_is_deleted", "_sequence"]
    assert changes("operations_files", columns, "_reject_reason is null") == [
        ("b", 9, Decimal("1.00"), "c", False, 1),
        ("b", 9, Decimal("1.00"), "c", False, 2),
        ("b", 9, None, "u", False, 3),
        ("b", 9, None, "d", True, 4),
        (None, None, None, "t", False, 5),
    ]
    assert list(reasons("operations_files").values()) == [
        "unknown operation",
        "key id is missing",
        "the sequence is missing",
        "the sequence is missing",
    ]


def test_plain_rows_of_a_table_are_ordered_by_several_columns(changes: Rows) -> None:
    columns = ["id", "amount", "_op", "_sequence", "_reject_reason"]
    rows = changes("operations_table", columns, order="batch_id, _sequence")
    at = {n: records.minutes(n).replace(tzinfo=None) for n in (-9, -8)}
    assert [row[1:] for row in rows[:3]] == [
        (Decimal("1.00"), "c", {"changed": at[-9], "version": 1}, None),
        (Decimal("2.00"), "u", {"changed": at[-9], "version": 2}, None),
        (Decimal("2.01"), "u", {"changed": at[-8], "version": 3},
         "amount is not of type decimal(18,2)"),
    ]  # fmt: skip
    assert rows[3] == (9, None, "d", None, "the sequence is missing")
    assert rows[4][-1] == "truncate: no rule for truncates is set for this table"


def test_flat_events_are_upserts_in_the_order_of_their_time(changes: Rows) -> None:
    columns = ["id", "amount", "_op", "_sequence", "_reject_reason"]
    assert changes("events", columns) == [
        ("e1", Decimal("1.50"), "c", 1780000000000000, None),
        ("e2", Decimal("2.00"), "c", None, "the sequence is missing"),
        (None, None, "c", None, "not a JSON document"),
    ]
    # Columns with the names of bronze's own.
    assert changes("events", ["value", "document"], "_position = 0") == [(4, "d")]
