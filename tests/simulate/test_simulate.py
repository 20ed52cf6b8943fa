"""The simulated bank keeps its promises: reproducible, right, and wrong only where it says so."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import socket
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import date
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, TopicPartition

from ingestion.simulate import (
    FEEDS,
    NONE,
    TOPICS,
    VENDORS,
    Delivery,
    Imperfections,
    JsonLines,
    Kafka,
    Part,
    Record,
    Settings,
    Sink,
    SinkError,
    VendorFile,
    deliveries,
    run,
    truth,
    undisturbed,
)
from ingestion.simulate.cli import simulate
from ingestion.simulate.envelopes import TABLES
from ingestion.simulate.imperfections import CUT_OFF_FILE, MALFORMED_KINDS
from ingestion.simulate.personas import CATEGORIES
from ingestion.simulate.sinks import json_line, partition_of
from ingestion.standin_broker import (
    RECEIVE_MESSAGE_MAX_BYTES,
    StandinUnavailableError,
    standin_broker,
)

SMALL = Settings(seed=3, customers=60, days=45)
BANK = Settings(seed=7, customers=250, days=120)
SCHEMA_NAMES = {table.name: [column.name for column in table.columns] for table in TABLES}


@pytest.fixture(scope="module")
def happened() -> list[Record]:
    return list(undisturbed(BANK))


@pytest.fixture(scope="module")
def arrived() -> list[Delivery]:
    return list(deliveries(BANK))


def records_of(arrived: Iterable[Delivery]) -> list[Record]:
    return [delivery for delivery in arrived if isinstance(delivery, Record)]


def files_of(arrived: Iterable[Delivery]) -> list[VendorFile]:
    return [delivery for delivery in arrived if isinstance(delivery, VendorFile)]


def payload(record: Record) -> dict[str, Any]:
    """The envelope of a change, taken out of its schema where it has one."""
    assert isinstance(record.value, str)
    value = json.loads(record.value, parse_float=float_is_an_error)
    if record.feed == "purchase_trends":
        assert value["schema"]["name"] == "purchase_trends.Envelope"
    envelope: dict[str, Any] = value.get("payload", value)
    return envelope


def float_is_an_error(text: str) -> None:
    raise AssertionError(f"a float in a change record: {text}")


Changes = list[tuple[Record, dict[str, Any]]]


@pytest.fixture(scope="module")
def changes(happened: list[Record]) -> Changes:
    return [(r, payload(r)) for r in happened if r.op in {"c", "u", "d", "r"}]


def as_bytes(everything: Iterable[Delivery]) -> bytes:
    digest = hashlib.sha256()
    for delivery in everything:
        if isinstance(delivery, VendorFile):
            digest.update(delivery.path.encode() + delivery.content)
        else:
            digest.update(delivery.feed.encode() + json_line(delivery))
    return digest.digest()


def folder_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(folder)} {path.stat().st_mtime_ns}".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


# ---- reproducible -----------------------------------------------------------------------------


def test_same_arguments_give_the_same_bytes_and_another_seed_does_not() -> None:
    assert as_bytes(deliveries(SMALL)) == as_bytes(deliveries(SMALL))
    other = Settings(seed=4, customers=60, days=45)
    assert as_bytes(deliveries(SMALL)) != as_bytes(deliveries(other))


def test_bytes_do_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    hashes = []
    for hash_seed in ("1", "2"):
        folder = tmp_path / hash_seed
        arguments = ["--customers", "30", "--days", "30", "--topics-to", str(folder / "topics")]
        subprocess.run(
            [
                sys.executable,
                "-c",
                "from ingestion.simulate.cli import simulate; simulate()",
                *arguments,
                "--landing",
                str(folder / "landing"),
            ],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
        vendor_files = sorted((folder / "landing").rglob("*.*"))
        for path in [*vendor_files, *(folder / "topics").iterdir()]:
            if path.suffix == ".jsonl":
                os.utime(path, (0, 0))
        hashes.append(folder_hash(folder))
    assert len(vendor_files) > 5
    assert hashes[0] == hashes[1]


def test_parts_one_after_the_other_are_the_whole() -> None:
    whole = list(deliveries(SMALL))
    parts = [list(deliveries(SMALL, part=Part(number, 3))) for number in (1, 2, 3)]
    assert [delivery for part in parts for delivery in part] == whole
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert all(files_of(part) for part in parts), "vendors' files come in every part"


def test_parts_written_to_one_folder_are_the_whole(tmp_path: Path) -> None:
    def play(folder: Path, part: str) -> None:
        result = CliRunner().invoke(
            simulate,
            [
                *("--customers", "20", "--days", "20", "--part", part),
                *("--topics-to", str(folder / "topics"), "--landing", str(folder / "landing")),
            ],
        )
        assert result.exit_code == 0, result.output

    play(tmp_path / "whole", "1/1")
    play(tmp_path / "parts", "1/2")
    first = {p.name: p.read_bytes() for p in (tmp_path / "parts" / "topics").iterdir()}
    play(tmp_path / "parts", "2/2")
    for path in (tmp_path / "whole" / "topics").iterdir():
        assert (tmp_path / "parts" / "topics" / path.name).read_bytes() == path.read_bytes()
        assert path.read_bytes().startswith(first[path.name])
    assert folder_hash(tmp_path / "whole" / "landing") == folder_hash(
        tmp_path / "parts" / "landing"
    )


def test_arrival_never_goes_back_in_time(arrived: list[Delivery]) -> None:
    times = [record.arrival_us for record in records_of(arrived)]
    assert times == sorted(times)


# ---- right: the envelopes ---------------------------------------------------------------------

COLUMN_TYPES: dict[str, type | tuple[type, ...]] = {"int32": int, "int64": int, "string": str}


def test_envelopes_have_the_fields_and_types_of_the_contract(changes: Changes) -> None:
    columns = {table.name: table.columns for table in TABLES}
    keys = {table.name: table.key for table in TABLES}
    seen = set()
    for record, change in changes:
        seen.add((record.feed, record.op))
        assert list(change) == [
            *("before", "after", "source", "transaction", "op", "ts_ms", "ts_us", "ts_ns")
        ]
        source = change["source"]
        assert list(source) == [
            *("version", "connector", "name", "ts_ms", "snapshot", "db", "sequence", "ts_us"),
            *("ts_ns", "schema", "table", "txId", "lsn", "xmin", "origin", "origin_lsn"),
        ]
        assert (source["connector"], source["name"], source["db"]) == ("postgresql", "bank", "bank")
        assert source["table"] == record.feed
        assert source["ts_ms"] == source["ts_us"] // 1000 == source["ts_ns"] // 1_000_000
        assert change["ts_ms"] == change["ts_us"] // 1000 == change["ts_ns"] // 1_000_000
        assert json.loads(source["sequence"])[1] == str(source["lsn"])
        assert change["op"] == record.op
        present, absent = ("before", "after") if record.op == "d" else ("after", "before")
        assert change[absent] is None
        image = change[present]
        assert list(image) == SCHEMA_NAMES[record.feed]
        for column in columns[record.feed]:
            value = image[column.name]
            if value is None:
                assert column.nullable
            else:
                assert isinstance(value, COLUMN_TYPES[column.type]), (record.feed, column.name)
                assert not isinstance(value, bool)
        name = keys[record.feed]
        assert record.key == json.dumps({name: image[name]}, separators=(",", ":"))
    assert {feed for feed, _ in seen} == set(SCHEMA_NAMES)
    assert {("customers", op) for op in "crud"} <= seen
    assert {("card_transactions", op) for op in "cud"} <= seen
    assert {("purchase_trends", op) for op in "crud"} <= seen


def test_values_are_those_of_the_contract(changes: Changes) -> None:
    allowed = {
        "cash_back_programme": {"everyday", "travel_plus", "premier"},
        "account_type": {"checking", "savings", "card"},
        "transaction_type": {"purchase", "refund", "reversal"},
        "direction": {"credit", "debit"},
        "purpose": {"salary", "rent", "utilities", "transfer", "loan_payment", "cash"},
        "product": {"personal", "auto", "home_mortgage"},
        "merchant_category_code": {category.code for category in CATEGORIES},
        "currency": {"USD"},
    }
    found = defaultdict(set)
    for _, change in changes:
        for name, value in (change["after"] or {}).items():
            if name in allowed:
                found[name].add(value)
            if name == "amount":
                assert Decimal(value) > 0
            if name in ("amount", "balance"):
                assert Decimal(value).as_tuple().exponent == -2
    assert found == allowed
    states = {c["after"]["status"] for r, c in changes if r.feed == "loan_applications"}
    assert states == {"submitted", "approved", "declined", "withdrawn", "funded"}


def test_flat_records_have_the_fields_of_the_contract(happened: list[Record]) -> None:
    for record in happened:
        if record.feed == "checking_acct":
            row = json.loads(str(record.value), parse_float=Decimal)
            assert list(row) == [
                *("customer_id", "scheduled_payment", "txn_amount", "debit_or_credit"),
                *("updt_ts", "initial_balance"),
            ]
            assert row["txn_amount"].as_tuple().exponent == -2
            assert row["initial_balance"].as_tuple().exponent == -2
            assert row["debit_or_credit"] in (0, 1) and row["scheduled_payment"] in (0, 1)
            assert len(row["updt_ts"]) == len("2026-01-02 03:04:05.678")
        elif record.feed == "clickstream":
            row = json.loads(str(record.value))
            assert list(row) == [
                *("event_id", "customer_id", "page", "action", "device", "latitude"),
                *("longitude", "occurred_at"),
            ]
            assert 25 < row["latitude"] < 50 and -130 < row["longitude"] < -65
            assert len(row["occurred_at"]) == len("2026-01-02T03:04:05.678Z")


def test_lsn_follows_the_commits_and_a_transaction_shares_its_id(changes: Changes) -> None:
    sources = [(r.op, change["source"]) for r, change in changes]
    snapshot = [source for op, source in sources if op == "r"]
    live = [source for op, source in sources if op != "r"]
    assert len({source["lsn"] for source in snapshot}) == 1
    assert snapshot[0]["snapshot"] == "first" and snapshot[-1]["snapshot"] == "last"
    assert {source["snapshot"] for source in live} == {"false"}
    lsns = [snapshot[0]["lsn"], *(source["lsn"] for source in live)]
    assert all(earlier < later for earlier, later in pairwise(lsns))
    assert all(a["txId"] <= b["txId"] for a, b in pairwise(live))
    commits: dict[int, set[int]] = defaultdict(set)
    for source in live:
        commits[source["txId"]].add(source["ts_us"])
    assert all(len(times) == 1 for times in commits.values())
    assert max(Counter(source["txId"] for source in live).values()) >= 3


def test_every_delete_is_followed_by_its_tombstone(arrived: list[Delivery]) -> None:
    clean = [r for r in records_of(arrived) if not r.flaw.startswith(("dup", "malformed"))]
    deletes = [(r.feed, r.key) for r in clean if r.op == "d"]
    tombstones = [(r.feed, r.key) for r in clean if r.value is None]
    assert deletes and sorted(deletes) == sorted(tombstones)
    place = {id(r): n for n, r in enumerate(clean)}
    for delete in (r for r in clean if r.op == "d"):
        assert any(
            r.value is None and (r.feed, r.key) == (delete.feed, delete.key)
            for r in clean[place[id(delete)] :]
        )


def test_datetime_updated_strictly_increases_per_customer(changes: Changes) -> None:
    latest: dict[str, int] = {}
    grown = 0
    for record, change in changes:
        if record.feed != "purchase_trends":
            continue
        row, committed_ms = change["after"], change["source"]["ts_ms"]
        customer = str(record.key)
        if row is None:
            assert committed_ms > latest[customer], "a delete is later than what it deletes"
            latest[customer] = committed_ms
            continue
        grown += customer in latest
        assert row["datetime_updated"] > latest.get(customer, 0)
        assert row["datetime_created"] <= row["datetime_updated"] <= committed_ms
        latest[customer] = row["datetime_updated"]
    assert grown > 1000


# ---- right: the money and the truth -----------------------------------------------------------


def test_refunds_and_reversals_never_exceed_their_purchase(changes: Changes) -> None:
    paid: dict[int, Decimal] = {}
    given_back: dict[int, Decimal] = defaultdict(Decimal)
    kinds: Counter[str] = Counter()
    for record, change in changes:
        if record.feed != "card_transactions":
            continue
        row = change["after"]
        if row is None:
            original = change["before"]["transaction_id"]
            assert given_back[original] == 0
            continue
        amount, original = Decimal(row["amount"]), row["original_transaction_id"]
        if row["transaction_type"] == "purchase":
            assert original is None
            paid[row["transaction_id"]] = amount
            continue
        given_back[original] += amount
        assert given_back[original] <= paid[original]
        is_full = given_back[original] == paid[original]
        assert is_full or row["transaction_type"] == "refund"
        kinds[row["transaction_type"] + (" full" if is_full else " partial")] += 1
    assert set(kinds) == {"reversal full", "refund full", "refund partial"}


def test_truth_is_what_replaying_the_undisturbed_records_gives(
    happened: list[Record], changes: Changes
) -> None:
    replayed: dict[str, dict[str, Any]] = {table.name: {} for table in TABLES}
    keys = {table.name: table.key for table in TABLES}
    for record, change in changes:
        image = change["after"] or change["before"]
        key = str(image[keys[record.feed]])
        if change["after"] is None:
            del replayed[record.feed][key]
        else:
            replayed[record.feed][key] = change["after"]
    said = truth(BANK)
    assert {feed: said[feed] for feed in replayed} == replayed
    assert set(said) == set(FEEDS)
    events = Counter(record.feed for record in happened if not record.op)
    assert {feed: len(said[feed]) for feed in events} == dict(events)


def test_every_record_arrives_and_what_is_extra_says_so(
    happened: list[Record], arrived: list[Delivery]
) -> None:
    once = [r for r in records_of(arrived) if not r.flaw.startswith(("dup", "malformed"))]
    sent = Counter((r.feed, r.key, r.value) for r in happened if r.feed in TOPICS)
    assert Counter((r.feed, r.key, r.value) for r in once) == sent
    for record in records_of(arrived):
        if record.flaw == "duplicate":
            assert (record.feed, record.key, record.value) in sent
    rows = Counter(r.feed for r in happened if r.feed in VENDORS)
    for file in files_of(arrived):
        extra = sum(flaw.startswith(("dup", "malformed")) for flaw in file.flaws if file.rows)
        rows[file.feed] -= file.rows - extra
    assert not any(rows.values())


def test_truth_survives_every_imperfection(arrived: list[Delivery]) -> None:
    rows: dict[tuple[str, str | None], tuple[int, Any]] = {}
    for record in records_of(arrived):
        if record.op in {"c", "u", "d", "r"} and not record.flaw.startswith("malformed"):
            change = payload(record)
            lsn = change["source"]["lsn"]
            if lsn >= rows.get((record.feed, record.key), (0, None))[0]:
                rows[record.feed, record.key] = (lsn, change["after"])
    said = truth(BANK)
    for table in TABLES:
        alive = [row for (feed, _), (_, row) in rows.items() if feed == table.name and row]
        assert {str(row[table.key]): row for row in alive} == said[table.name]
    tickets = set()
    for file in files_of(arrived):
        if file.feed == "vendor_tickets":
            for fields in csv.reader(file.content.decode().splitlines()[1:], delimiter=";"):
                tickets.add(fields[0])
    assert tickets - {""} == set(said["vendor_tickets"])


def test_the_bank_is_the_same_whatever_goes_wrong_on_the_way() -> None:
    assert records_of(deliveries(SMALL, NONE)) == [
        record for record in undisturbed(SMALL) if record.feed in TOPICS
    ]


# ---- a believable bank ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def larger() -> dict[str, dict[str, Any]]:
    return truth(Settings(seed=7, customers=500, days=90))


def test_engagement_and_programmes_are_mixed_as_intended(
    larger: dict[str, dict[str, Any]],
) -> None:
    said = larger
    online = [row["number_of_online_txns"] for row in said["purchase_trends"].values()]
    assert sum(n <= 2 for n in online) / len(online) == pytest.approx(0.25, abs=0.06)
    assert sum(2 < n <= 10 for n in online) / len(online) == pytest.approx(0.45, abs=0.06)
    assert sum(n > 10 for n in online) / len(online) == pytest.approx(0.30, abs=0.06)
    programmes = Counter(row["cash_back_programme"] for row in said["customers"].values())
    assert min(programmes.values()) / len(said["customers"]) > 0.15
    assert any(row["home_mortgage_purchased_ts"] for row in said["purchase_trends"].values())
    assert any(row["status"] == "closed" for row in said["customers"].values())


def test_programmes_matter_for_what_is_spent_on_travel_and_dining(
    larger: dict[str, dict[str, Any]],
) -> None:
    said = larger
    programme = {k: row["cash_back_programme"] for k, row in said["customers"].items()}
    spent: dict[str, Decimal] = defaultdict(Decimal)
    for row in said["card_transactions"].values():
        if row["merchant_category_code"] in ("4511", "7011", "5812"):
            spent[programme.get(str(row["customer_id"]), "gone")] += Decimal(row["amount"])
    members = Counter(programme.values())
    assert spent["premier"] / members["premier"] > 3 * spent["everyday"] / members["everyday"]


def test_seasons_show_weekend_dining_and_december_retail() -> None:
    said = truth(Settings(seed=1, customers=300, days=92, end=date(2025, 12, 31)))
    by_day: Counter[bool] = Counter()
    retail: Counter[int] = Counter()
    for row in said["card_transactions"].values():
        on = date.fromordinal(719_163 + row["transacted_at"] // 86_400_000_000)
        if row["merchant_category_code"] == "5812":
            by_day[on.weekday() >= 4] += 1
        if row["merchant_category_code"] in ("5311", "5732", "5999"):
            retail[on.month] += 1
    assert by_day[True] / 3 > 1.4 * by_day[False] / 4
    assert retail[12] > 1.6 * retail[10]


def test_customers_come_and_go(happened: list[Record]) -> None:
    ops = Counter((record.feed, record.op) for record in happened)
    assert ops["customers", "c"] == pytest.approx(0.12 * BANK.customers, abs=2)
    assert ops["customers", "d"] == pytest.approx(0.01 * BANK.customers, abs=1)
    assert ops["purchase_trends", "d"] >= 0.01 * BANK.customers
    assert ops["card_transactions", "d"] / ops["card_transactions", "c"] == pytest.approx(
        0.005, abs=0.003
    )
    assert ops["customers", "u"] > 20 and ops["accounts", "u"] > 1000


# ---- wrong only where it says so --------------------------------------------------------------


def flaws_of(arrived: Iterable[Delivery]) -> Counter[str]:
    flaws: Counter[str] = Counter(r.flaw for r in records_of(arrived) if r.flaw)
    for file in files_of(arrived):
        flaws.update(file.flaws)
    return flaws


def test_proportions_are_those_stated(happened: list[Record], arrived: list[Delivery]) -> None:
    stated, flaws, total = Imperfections(), flaws_of(arrived), len(happened)
    assert flaws["late"] / total == pytest.approx(stated.late, rel=0.15)
    assert flaws["out_of_order"] / total == pytest.approx(stated.out_of_order, rel=0.15)
    assert flaws["duplicate"] / total == pytest.approx(stated.duplicates, rel=0.15)
    rows = sum(record.feed in VENDORS for record in happened)
    expected = (total - rows) * stated.malformed + rows * stated.malformed_rows
    malformed = sum(n for flaw, n in flaws.items() if flaw.startswith("malformed"))
    assert malformed == pytest.approx(expected, rel=0.35)


def test_every_kind_of_malformed_record_occurs_and_is_malformed(arrived: list[Delivery]) -> None:
    found = {flaw for flaw in flaws_of(arrived) if flaw.startswith("malformed")}
    assert found == {f"malformed:{kind}" for kind in MALFORMED_KINDS} | {CUT_OFF_FILE}
    names = {table.name: table.key for table in TABLES} | {
        "clickstream": "event_id",
        "checking_acct": "customer_id",
    }
    for record in records_of(arrived):
        kind = record.flaw.removeprefix("malformed:")
        if kind == record.flaw:
            assert not isinstance(record.value, bytes)
        elif kind == "not_utf8":
            assert isinstance(record.value, bytes)
            with pytest.raises(UnicodeDecodeError):
                record.value.decode()
        elif kind in ("cut_off", "not_json"):
            with pytest.raises(json.JSONDecodeError):
                json.loads(str(record.value))
        elif kind == "unknown_op":
            assert payload(record)["op"] == "x"
        else:
            value = json.loads(str(record.value))
            value = value.get("payload", value)
            image = value.get("after") or value.get("before") or value
            assert names[record.feed] not in image


def test_late_records_arrive_after_newer_ones_of_their_own_key(arrived: list[Delivery]) -> None:
    overtaken: Counter[str] = Counter()
    newest: dict[tuple[str, str | None], int] = {}
    for record in records_of(arrived):
        if record.flaw == "late":
            wait = record.arrival_us - record.happened_us
            assert 3 * 3600e6 <= wait <= 10 * 86400e6 + 60e6
        if not record.op or record.flaw.startswith(("dup", "mal")):
            continue
        known = newest.setdefault((record.feed, record.key), record.happened_us)
        if record.happened_us < known:
            overtaken[record.flaw] += 1
        newest[record.feed, record.key] = max(known, record.happened_us)
    assert overtaken["late"] > 10
    assert overtaken["out_of_order"] > 10
    assert overtaken[""] == 0, "what is not flawed is in order"


def test_vendor_files_are_what_their_format_says(arrived: list[Delivery]) -> None:
    files = files_of(arrived)
    assert len({file.path for file in files}) == len(files)
    bad_widths: Counter[int] = Counter()
    for file in files:
        vendor = VENDORS[file.feed]
        assert file.path.startswith(vendor.folder + "/") and file.path.endswith(vendor.format)
        text = file.content.decode()
        if file.flaws == (CUT_OFF_FILE,):
            with pytest.raises(json.JSONDecodeError):
                json.loads(text)
            whole = next(f for f in files if f.path == file.path.replace("_again", ""))
            assert whole.content.startswith(file.content)
        elif vendor.format == "json":
            rows = json.loads(text)
            assert len(rows) == file.rows
            assert all(tuple(row) == vendor.columns for row in rows)
        elif vendor.format == "ndjson":
            assert len(text.splitlines()) == file.rows
        else:
            lines = text.splitlines()
            delimiter = ";" if vendor.format == "csv" else "\t"
            table = list(csv.reader(lines, delimiter=delimiter))
            assert tuple(table[0]) == vendor.columns and len(table) == file.rows + 1
            bad_widths.update(len(r) for r in table if len(r) != len(vendor.columns))
            if vendor.format == "csv":
                assert all(line.startswith('"') and line.endswith('"') for line in lines)
    assert set(bad_widths) == {5, 7}


# ---- the command ------------------------------------------------------------------------------


def test_topics_folder_holds_what_was_delivered_and_the_report_counts_it(tmp_path: Path) -> None:
    sink = Sink(tmp_path / "landing", JsonLines(tmp_path / "topics"))
    report = run(SMALL, sink, Imperfections(malformed=0.02), clock=iter([0.0, 2.0]).__next__)
    lines = {
        feed: (tmp_path / "topics" / f"{topic}.jsonl").read_bytes().splitlines()
        for feed, topic in TOPICS.items()
    }
    assert {feed: len(found) for feed, found in lines.items()} == {
        feed: report.feeds[feed] for feed in TOPICS
    }
    everything = [json.loads(line) for found in lines.values() for line in found]
    assert {tuple(line) for line in everything} == {
        ("key", "value", "timestamp_ms"),
        ("key", "value_base64", "timestamp_ms"),
    }
    landed = [path for path in (tmp_path / "landing").rglob("*") if path.is_file()]
    assert len(landed) == report.files
    assert not [path for path in tmp_path.rglob("*") if ".tmp" in path.name]
    assert report.events_per_second == round(report.records / 2)
    assert report.as_dict()["stated"]["late"] == 0.02


def test_vendor_files_appear_complete_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {file.path: file.content for file in files_of(deliveries(SMALL))}
    renamed = []
    replace = Path.replace

    def watched(source: Path, target: Path) -> Path:
        if target.is_relative_to(tmp_path / "landing"):
            name = str(target.relative_to(tmp_path / "landing"))
            assert source.name.startswith(".") and source.suffix == ".tmp"
            assert source.read_bytes() == contents[name] and not target.exists()
            renamed.append(name)
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", watched)
    run(SMALL, Sink(tmp_path / "landing", JsonLines(tmp_path / "topics")))
    assert sorted(renamed) == sorted(contents)


def test_a_failed_run_leaves_no_topic_behind(tmp_path: Path) -> None:
    (tmp_path / "landing").write_text("in the way")
    result = CliRunner().invoke(
        simulate,
        [
            *("--customers", "20", "--days", "20", "--topics-to", str(tmp_path / "topics")),
            *("--landing", str(tmp_path / "landing" / "vendors")),
        ],
    )
    assert result.exit_code == 1
    assert result.output.count("\n") == 1 and str(tmp_path / "landing") in result.output
    assert not list((tmp_path / "topics").iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--part", "3/2"], "3/2"),
        (["--part", "half"], "half"),
        (["--customers", "0"], "customers"),
        ([], "KAFKA_BOOTSTRAP_SERVERS"),
    ],
)
def test_wrong_settings_are_named(arguments: list[str], words: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        simulate,
        [*arguments, "--landing", str(tmp_path)],
        env={"KAFKA_BOOTSTRAP_SERVERS": None},
    )
    assert result.exit_code != 0 and words in result.output
    assert not list(tmp_path.iterdir())


def test_json_report_is_one_json_document(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        simulate,
        [
            *("--customers", "20", "--days", "20", "--json", "--topics-to", str(tmp_path / "t")),
            *("--landing", str(tmp_path / "l")),
        ],
    )
    report = json.loads(result.output)
    assert report["records"] == sum(report["feeds"].values())
    assert set(report["feeds"]) <= set(FEEDS)


def test_a_key_stays_in_its_partition_and_both_partitions_are_used(
    arrived: list[Delivery],
) -> None:
    partitions: dict[tuple[str, str | None], set[int]] = defaultdict(set)
    used = defaultdict(set)
    for record in records_of(arrived):
        number = partition_of(record.entity, 2)
        used[record.feed].add(number)
        if record.key is not None:
            partitions[record.feed, record.key].add(number)
    assert all(len(numbers) == 1 for numbers in partitions.values())
    assert all(used[feed] == {0, 1} for feed in TOPICS)
    assert partition_of('{"customer_id":17}', 97) == 49, "never changes, whatever the version"


# ---- Kafka (the stand-in broker takes its place) ----------------------------------------------


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    with ExitStack() as stack:
        try:
            address = stack.enter_context(standin_broker(tmp_path / "broker"))
        except StandinUnavailableError as error:
            if os.environ.get("REQUIRE_ALL") == "1":
                raise
            pytest.skip(f"Kafka tests need a broker: {error}")
        yield address


def test_kafka_gets_every_record_in_order_with_its_key_and_time(
    broker: str, tmp_path: Path
) -> None:
    bank, flaws = Settings(customers=15, days=20), Imperfections(malformed=0.02)
    expected: dict[tuple[str, int], list[tuple[object, ...]]] = defaultdict(list)
    for record in records_of(deliveries(bank, flaws)):
        value = record.value.encode() if isinstance(record.value, str) else record.value
        key = record.key.encode() if record.key is not None else None
        place = (TOPICS[record.feed], partition_of(record.entity, 3))
        expected[place].append((key, value, record.arrival_us // 1000))
    for number in (1, 2):
        sink = Sink(tmp_path / "landing", Kafka(broker, partitions=3))
        run(bank, sink, flaws, Part(number, 2))

    consumer = Consumer(
        {
            "bootstrap.servers": broker,
            "group.id": "test",
            "receive.message.max.bytes": RECEIVE_MESSAGE_MAX_BYTES,
        }
    )
    try:
        for (topic, partition), records in expected.items():
            consumer.assign([TopicPartition(topic, partition, 0)])
            found: list[tuple[object, ...]] = []
            while len(found) < len(records):
                missing = len(records) - len(found)
                messages = consumer.consume(min(missing, 1000), timeout=10)
                assert messages, f"{topic} ends after {len(found)} of {len(records)}"
                found += [(m.key(), m.value(), m.timestamp()[1]) for m in messages]
            assert found == records
    finally:
        consumer.close()


def test_unreachable_broker_is_named() -> None:
    with socket.socket() as reserved:
        # bound but not listening: whoever connects is refused
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
        with pytest.raises(SinkError, match=address):
            Kafka(address, timeout_s=1)
