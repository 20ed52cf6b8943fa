"""Records of every source format: real ones, and those of the formats' own documentation.

A bronze record is (source, key, value); a partner's table is its columns and its rows.
"""

import copy
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

Record = tuple[str, Any, Any]
DATA = Path(__file__).parents[1] / "data"
UNAVAILABLE = "__debezium_unavailable_value"


def real(file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / file).read_text().splitlines()]


def changed(record: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """A copy of an envelope with other fields in its parts, or other parts."""
    made = copy.deepcopy(record)
    for name, part in parts.items():
        made[name] = {**made[name], **part} if isinstance(part, dict) and made[name] else part
    return made


# --- PostgreSQL: what Debezium 3.6 wrote of PostgreSQL 15, in several settings --------------------

WRITTEN = [record for record in real("debezium_postgres.jsonl") if record["value"]]
CUSTOMERS = {
    variant: [
        record["value"]
        for record in WRITTEN
        if record["variant"].startswith(variant) and record["topic"] == "bank.bank.customers"
    ]
    # base64 decimals; with schemas; decimals as text
    for variant in "ABC"
}
TRUNCATE = next(record["value"] for record in WRITTEN if record["value"].get("op") == "t")
TRANSACTION_INFINITY = next(
    record["value"]
    for record in WRITTEN
    if record["topic"] == "bank.bank.transactions"
    and (record["value"]["after"] or {}).get("at") == "infinity"
)
UPDATE = CUSTOMERS["C"][3]
POSTGRESQL: list[Record] = [
    *(("C", None, value) for value in CUSTOMERS["C"]),
    ("truncate", None, TRUNCATE),
    *(("A", None, value) for value in CUSTOMERS["A"]),
    *(("B", None, value) for value in CUSTOMERS["B"]),
    *(("B bare", None, value["payload"]) for value in CUSTOMERS["B"]),
    ("tombstone", {"id": 3}, None),
    ("broken", None, "{"),
    ("broken", None, changed(UPDATE, op="m")),
    ("broken", None, changed(UPDATE, after=None)),
    ("broken", None, changed(UPDATE, after={"id": None})),
    ("broken", None, changed(UPDATE, source={"lsn": None})),
    ("broken", None, changed(UPDATE, after={"balance": "1.00001"})),
    ("broken", None, changed(UPDATE, after={"created_at": "infinity"})),
    ("broken", None, changed(TRUNCATE, source={"lsn": None})),
]

# --- MySQL: https://debezium.io/documentation/reference/stable/connectors/mysql.html#mysql-events

ANNE = {"id": 1004, "first_name": "Anne", "last_name": "Kretchmar", "email": "annek@noanswer.org"}
ANNE_MARIE = {**ANNE, "first_name": "Anne Marie"}


def mysql(
    op: str,
    pos: int,
    file: str = "mysql-bin.000003",
    row: int = 0,
    server: int = 223344,
    **more: Any,
) -> dict[str, Any]:
    images: dict[str, dict[str, Any]] = {
        "c": {"before": None, "after": ANNE},
        "u": {"before": ANNE, "after": ANNE_MARIE},
        "d": {"before": ANNE_MARIE, "after": None},
        "r": {"before": None, "after": ANNE},
        "t": {"before": None, "after": None},
    }
    return {
        **images[op],
        "source": {
            "version": "3.6.0.Final",
            "connector": "mysql",
            "name": "mysql-server-1",
            "ts_ms": 1465581902300,
            "ts_us": 1465581902300000,
            "snapshot": "true" if op == "r" else False,
            "db": "inventory",
            "table": "customers",
            "server_id": server,
            "gtid": None,
            "file": file,
            "pos": pos,
            "row": row,
            "thread": 7,
        },
        "op": op,
        "ts_ms": 1465581902461,
        **more,
    }


MYSQL: list[Record] = [
    # A snapshot does not know its server.
    ("snapshot", None, mysql("r", 154, server=0)),
    ("create", None, mysql("c", 154)),
    ("update", None, {"schema": {}, "payload": mysql("u", 484)}),
    ("second row of the event", None, mysql("u", 484, row=1)),
    ("delete", None, mysql("d", 805)),
    ("next file", None, mysql("c", 4, "mysql-bin.000010")),
    ("seven digits", None, mysql("u", 4, "mysql-bin.1000000")),
    ("next server", None, mysql("u", 4, "mysql-bin.000001", server=112233)),
    ("unknown server", None, mysql("u", 4, "mysql-bin.000001", server=5)),
    ("truncate", None, mysql("t", 900, "mysql-bin.000010")),
    ("no file", None, mysql("u", 4, "")),
]

# --- SQL Server:
# https://debezium.io/documentation/reference/stable/connectors/sqlserver.html#sqlserver-data-change-events


def sqlserver(
    op: str, commit: str | None, change: str | None, serial: str | None, before: Any, after: Any
) -> dict[str, Any]:
    return {
        "before": before,
        "after": after,
        "source": {
            "version": "3.6.0.Final",
            "connector": "sqlserver",
            "name": "server1",
            "ts_ms": 1559729468470,
            "snapshot": "true" if op == "r" else False,
            "db": "testDB",
            "schema": "dbo",
            "table": "customers",
            "change_lsn": change,
            "commit_lsn": commit,
            "event_serial_no": serial,
        },
        "op": op,
        "ts_ms": 1559729471739,
    }


JOHN = {"id": 1005, "first_name": "john", "last_name": "doe", "email": "john.doe@example.org"}
NOREPLY = {**JOHN, "email": "noreply@example.org"}
SQLSERVER: list[Record] = [
    (
        "delete",
        None,
        sqlserver("d", "00000027:00000db0:0007", "00000027:00000db0:0005", "1", NOREPLY, None),
    ),
    (
        "update",
        None,
        sqlserver("u", "00000027:00000ac0:0007", "00000027:00000ac0:0002", "2", JOHN, NOREPLY),
    ),
    (
        "create",
        None,
        sqlserver("c", "00000027:00000758:0005", "00000027:00000758:0003", "1", None, JOHN),
    ),
    # The schema change example of the same page shows what a snapshot's position looks like.
    ("snapshot", None, sqlserver("r", "00000025:00000d98:00a2", None, None, None, JOHN)),
    (
        "same commit",
        None,
        sqlserver("u", "00000025:00000d98:00a2", "00000025:00000d98:0002", "2", JOHN, JOHN),
    ),
    ("no position", None, sqlserver("u", None, None, None, JOHN, JOHN)),
]

# --- MongoDB: https://debezium.io/documentation/reference/stable/connectors/mongodb.html#mongodb-events


def mongodb(
    op: str, ord_: int | None, after: str | None, ts_ms: int = 1558965508000
) -> dict[str, Any]:
    return {
        "after": after,
        "source": {
            "connector": "mongodb",
            "name": "fulfillment",
            "ts_ms": ts_ms,
            "snapshot": False,
            "db": "inventory",
            "collection": "customers",
            "ord": ord_,
            "lsid": None,
            "txnNumber": 1,
        },
        "op": op,
        "ts_ms": 1558965515240,
    }


INTEGER_KEY = {"id": "1004"}
OBJECT_KEY = {"schema": {}, "payload": {"id": '{"$oid" : "596e275826f08b2730779e1f"}'}}
TEXT_KEY = {"id": '"a-1"'}
DOCUMENT = (
    '{"_id" : {"$numberLong" : "1004"},"first_name" : "Anne","last_name" : "Kretchmar",'
    '"email" : "annek@noanswer.org"}'
)
TYPED_DOCUMENT = (
    '{"_id": {"$oid": "596e275826f08b2730779e1f"}, "first_name": "Bo",'
    ' "visits": {"$numberInt": "3"}, "balance": {"$numberDecimal": "10.25"},'
    ' "seen_at": {"$date": {"$numberLong": "1783101585729"}}, "address": {"city": "Ulm"}}'
)
MONGODB: list[Record] = [
    ("create", INTEGER_KEY, {"schema": {}, "payload": mongodb("c", 31, DOCUMENT)}),
    ("update", OBJECT_KEY, mongodb("u", 1, TYPED_DOCUMENT)),
    (
        "legacy date",
        TEXT_KEY,
        mongodb("r", 2, '{"_id": "a-1", "seen_at": {"$date": 1783101585729}}'),
    ),
    (
        "iso date",
        TEXT_KEY,
        mongodb("u", 3, '{"_id": "a-1", "seen_at": {"$date": "2026-07-03T17:59:45.729Z"}}'),
    ),
    ("delete", OBJECT_KEY, {"schema": {}, "payload": mongodb("d", 6, None)}),
    ("no document", INTEGER_KEY, mongodb("u", 7, None)),
    ("broken document", INTEGER_KEY, mongodb("u", 8, "{")),
    ("no ordinal", INTEGER_KEY, mongodb("u", None, DOCUMENT)),
    ("no key", None, mongodb("d", 9, None)),
    ("not a number", INTEGER_KEY, mongodb("u", 10, '{"_id": 1004, "visits": {"$binary": "AA=="}}')),
]

# --- Unwrapped: what ExtractNewRecordState 3.6 wrote of PostgreSQL 15 (one long text is cut)

UNWRAPPED_REAL = real("debezium_unwrapped.jsonl")
LAST = UNWRAPPED_REAL[-1]["value"]


def without(value: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: held for name, held in value.items() if name not in names}


UNWRAPPED: list[Record] = [
    *(("real", record["key"], record["value"]) for record in UNWRAPPED_REAL),
    # https://debezium.io/documentation/reference/stable/transformations/event-flattening.html
    (
        "documented",
        None,
        {
            "id": 8,
            "name": "x",
            "__op": "c",
            "__table": "MY_TABLE",
            "__lsn": "123456789",
            "__source_ts_ms": "123456789",
        },
    ),
    ("tombstone", {"id": 3}, None),
    ("no operation", None, without(LAST, "__op", "__deleted")),
    ("only __deleted", None, without(LAST, "__op")),
    ("no position", None, without(LAST, "__source_lsn")),
]
UNWRAPPED_MYSQL: list[Record] = [
    (
        "update",
        None,
        {
            "id": 1,
            "first_name": "A",
            "__op": "u",
            "__source_file": "mysql-bin.000003",
            "__source_pos": 484,
            "__source_row": 0,
            "__source_server_id": 1,
        },
    ),
    ("tombstone", {"id": 1}, None),
    ("no position", None, {"id": 1, "first_name": "A", "__op": "u"}),
]

# --- AWS DMS: https://docs.aws.amazon.com/dms/latest/userguide/CHAP_Target.S3.html, with the change
# sequence that the task adds; CSV rows are landed as objects of texts


def dms(op: str | None, city: str, seq: str | None, **more: str) -> dict[str, Any]:
    row = {
        "id": "101",
        "last_name": "Smith",
        "city": city,
        "salary": "10.50",
        "updated": "",
        **more,
    }
    return row | ({} if op is None else {"Op": op}) | ({} if seq is None else {"transact_id": seq})


DMS: list[Record] = [
    ("load", None, dms(None, "New York", "")),
    ("load with operation", None, dms("I", "New York", "")),
    ("insert", None, dms("I", "New York", "20140604120000000000000000000000001")),
    (
        "update",
        None,
        dms(
            "U",
            "Los Angeles",
            "20151008120000000000000000000000002",
            updated="2015-10-08 12:00:00.000000",
        ),
    ),
    ("update", None, dms("U", "Dallas", "20170313120000000000000000000000003", salary="")),
    ("delete", None, dms("D", "Dallas", "20170313120000000000000000000000004")),
    ("no sequence", None, dms("U", "Dallas", None)),
    ("unknown", None, dms("X", "Dallas", "20170313120000000000000000000000005")),
    ("no number", None, dms("U", "Dallas", "20170313120000000000000000000000006", salary="ten")),
]

# --- Plain rows with an operation column ----------------------------------------------------------


def plain(change: str, version: str, amount: str = "1.00", key: str = "9") -> dict[str, Any]:
    return {
        "branch": "b",
        "id": key,
        "amount": amount,
        "change": change,
        "version": version,
        "changed": "2026-01-02T03:04:05Z",
    }


OPERATIONS: list[Record] = [
    ("insert", None, plain("I", "1")),
    ("insert", None, plain("insert", "2")),
    ("update", None, plain("U", "3", amount="")),
    ("delete", None, plain("D", "4", amount="not read")),
    ("truncate", None, plain("T", "5")),
    ("unknown", None, plain("M", "6")),
    ("no key", None, plain("U", "7", key="")),
    ("no sequence", None, plain("U", "")),
    ("truncate without sequence", None, plain("T", "")),
]

EVENTS: list[Record] = [
    ("event", None, {"id": "e1", "amount": 1.5, "at": 1780000000000, "value": 4, "document": "d"}),
    ("no time", None, {"id": "e2", "amount": "2"}),
    ("broken", None, "nope"),
]

BRONZE: dict[str, list[Record]] = {
    "postgresql": POSTGRESQL,
    "mysql": MYSQL,
    "sqlserver": SQLSERVER,
    "mongodb": MONGODB,
    "unwrapped": UNWRAPPED,
    "unwrapped_mysql": UNWRAPPED_MYSQL,
    "dms": DMS,
    "operations": OPERATIONS,
    "events": EVENTS,
}

# --- Tables of partners' connectors ---------------------------------------------------------------

SYNCED = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
FOREVER = datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)


def minutes(number: int) -> datetime:
    return SYNCED + timedelta(minutes=number)


def ends_before(at: datetime) -> datetime:
    return at - timedelta(milliseconds=1)


PARTNERS: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
    # https://fivetran.com/docs/core-concepts/system-columns-and-tables
    "fivetran_soft_delete": (
        "id bigint, name varchar, balance decimal(20, 4), _fivetran_deleted boolean,"
        " _fivetran_synced timestamptz",
        [
            (1, "Ann", "10.5000", False, minutes(0)),
            (2, "Bob", "11.0000", True, minutes(1)),
            (3, "Cy", "1.2345", False, minutes(2)),
            (None, "Di", "1", False, minutes(3)),
        ],
    ),
    # https://fivetran.com/docs/core-concepts/sync-modes/history-mode
    "fivetran_history": (
        "id bigint, name varchar, _fivetran_start timestamptz, _fivetran_end timestamptz,"
        " _fivetran_active boolean, _fivetran_synced timestamptz",
        [
            (1, "Ann", minutes(0), ends_before(minutes(5)), False, minutes(6)),
            (1, "Ann2", minutes(5), FOREVER, True, minutes(6)),
            # Deleted at the source, and the end is not marked as a sync of its own.
            (2, "Bob", minutes(1), ends_before(minutes(7)), False, minutes(2)),
        ],
    ),
    # https://docs.airbyte.com/platform/understanding-airbyte/cdc and .../airbyte-metadata-fields
    "airbyte": (
        "id bigint, name varchar, balance decimal(20, 4), _ab_cdc_lsn decimal(38, 9),"
        " _ab_cdc_updated_at varchar, _ab_cdc_deleted_at varchar, _airbyte_raw_id varchar,"
        " _airbyte_extracted_at timestamptz, _airbyte_meta varchar",
        [
            (
                1,
                "Ann",
                "10.25",
                26718096,
                "2026-07-01T11:00:00Z",
                None,
                "a",
                minutes(0),
                '{"sync_id":1,"changes":[]}',
            ),
            (
                1,
                "Ann2",
                "10.25",
                26718632,
                "2026-07-01T11:00:01Z",
                None,
                "b",
                minutes(0),
                '{"sync_id":1,"changes":[]}',
            ),
            # A delete holds the key only.
            (
                1,
                None,
                None,
                26719312,
                "2026-07-01T11:00:02Z",
                "2026-07-01T11:00:02Z",
                "c",
                minutes(1),
                '{"sync_id":2,"changes":[]}',
            ),
            (
                2,
                "Bob",
                None,
                26719608,
                "2026-07-01T11:00:03Z",
                None,
                "d",
                minutes(2),
                '{"sync_id":3,"changes":[{"field":"balance","change":"NULLED","reason":"DESTINATION_SERIALIZATION_ERROR"}]}',
            ),
            (3, "Cy", None, None, None, None, "e", minutes(3), None),
        ],
    ),
    "airbyte_mysql": (
        "id bigint, name varchar, _ab_cdc_log_file varchar, _ab_cdc_log_pos double,"
        " _ab_cdc_updated_at varchar, _ab_cdc_deleted_at varchar, _airbyte_raw_id varchar,"
        " _airbyte_extracted_at timestamptz",
        [
            (1, "Ann", "binlog.000003", 484.0, None, None, "a", minutes(0)),
            (1, "Ann2", "binlog.000004", 4.0, None, None, "b", minutes(1)),
            (2, "Bob", None, 4.0, None, None, "c", minutes(2)),
        ],
    ),
    # https://docs.confluent.io/cloud/current/connectors/cc-databricks-delta-lake-sink/cc-databricks-delta-lake-sink.html
    "confluent": (
        "id bigint, name varchar, big varchar, __op varchar, __deleted varchar,"
        " __source_ts_ms bigint,"
        " kafka_topic varchar, partition int, kafka_offset bigint, kafka_timestamp timestamptz",
        [
            (1, "Ann", "x", "c", "false", 1780000000000, "bank.customers", 2, 10, minutes(0)),
            (
                1,
                "Ann2",
                UNAVAILABLE,
                "u",
                "false",
                1780000000001,
                "bank.customers",
                2,
                11,
                minutes(0),
            ),
            # What Debezium makes up of a deleted row is not read.
            (1, "", None, "d", "true", 1780000000002, "bank.customers", 2, 12, minutes(1)),
            (2, "Bob", None, None, "false", None, "bank.customers", 0, 3, minutes(2)),
            (3, "Cy", None, None, None, None, "bank.customers", 0, 4, minutes(3)),
        ],
    ),
    "dms": (
        "Op varchar, id bigint, city varchar, transact_id varchar, loaded_at timestamp",
        [
            ("I", 101, "New York", None, minutes(0).replace(tzinfo=None)),
            (
                "U",
                101,
                "Dallas",
                "20170313120000000000000000000000003",
                minutes(1).replace(tzinfo=None),
            ),
            (
                "D",
                101,
                "Dallas",
                "20170313120000000000000000000000004",
                minutes(2).replace(tzinfo=None),
            ),
        ],
    ),
    "operations": (
        "branch varchar, id bigint, amount decimal(18, 3), change varchar, version int,"
        " changed timestamptz, written timestamptz",
        [
            ("b", 9, "1.000", "I", 1, minutes(-9), minutes(0)),
            ("b", 9, "2.000", "U", 2, minutes(-9), minutes(0)),
            ("b", 9, "2.005", "U", 3, minutes(-8), minutes(1)),
            ("b", 9, None, "D", None, minutes(-7), minutes(2)),
            (None, None, None, "T", 4, minutes(-7), minutes(3)),
        ],
    ),
}
