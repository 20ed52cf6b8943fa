"""What is read again lands where it is missing, under its own address, and nowhere twice."""

import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from deltalake import DeltaTable
from ingestion_helpers import (
    CRASH_STEP,
    NOW,
    assert_exactly_once,
    bronze_rows,
    crash_before_line,
    file_feed,
    kafka_feed,
    land,
    positions,
    quarantine_rows,
    running,
    wait_for,
)

from ingestion import bronze, files, kafka, ledger, places, quarantine
from ingestion import replay as module
from ingestion.bronze import Bronze, Tables, TopicPartition
from ingestion.cli import main
from ingestion.config import Feed
from ingestion.errors import ConfigError, FeedError
from ingestion.records import Reject, reject_rows
from ingestion.replay import Bound, Interval, Replayed

NewTopic = Callable[..., str]
Send = Callable[..., None]
HOUR_AGO = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
PROTOCOL = [
    module.replay,
    module.Landing.flush,
    module.Landing._commit,
    bronze._Table._commit,
    bronze.Rows.finish,
    bronze.Quarantine.commit,
    bronze.Bronze.commit,
]


def replay(feed: Feed, lakehouse: Path, start: Bound = None, end: Bound = None) -> Replayed:
    return module.replay(feed, Interval(start, end), lakehouse, lambda: NOW)


def objects(start: int, end: int, bad: int = 1_000_000) -> list[bytes]:
    """JSON objects, of which every `bad`-th is malformed."""
    return [b'{"n":%d}' % n if (n + 1) % bad else b'{"n":' for n in range(start, end)]


def delete(lakehouse: Path, where: str, feed: str = "events") -> None:
    """Take rows out by hand, from both tables."""
    DeltaTable(lakehouse / "bronze" / feed).delete(where)
    if DeltaTable.is_deltatable(str(lakehouse / "quarantine")):
        DeltaTable(lakehouse / "quarantine").delete(where)


def contents(lakehouse: Path, feed: str = "events") -> list[tuple[Any, ...]]:
    """Address and value of every row of both tables, without when and in which batch it came."""
    both = bronze_rows(lakehouse, feed) + quarantine_rows(lakehouse)
    rows = [(r["source"], r["partition"], r["position"], r["key"], r["value"]) for r in both]
    return sorted(rows, key=str)


# --- Kafka --------------------------------------------------------------------------------------


def test_deleted_rows_come_back_once_with_their_addresses_and_no_others(
    broker: str, new_topic: NewTopic, lakehouse: Path
) -> None:
    topic = new_topic(objects(0, 10, bad=4), objects(0, 6, bad=4))
    feed = kafka_feed(broker, topic, batch_rows=4)
    land(feed, lakehouse)
    before = contents(lakehouse)
    progress = [Bronze(lakehouse, "events").next_offset(TopicPartition(topic, p)) for p in (0, 1)]
    delete(lakehouse, "position in (2, 3, 5)")
    batch_id = Bronze(lakehouse, "events").batch_id
    done = replay(feed, lakehouse)
    assert (done.landed, done.rejected, done.already_there) == (4, 2, 10)
    assert contents(lakehouse) == before
    assert_exactly_once(lakehouse, "events", 16)
    new = {r["batch_id"] for r in bronze_rows(lakehouse, "events") if r["position"] in (2, 5)}
    assert min(new) == batch_id + 1
    after = [Bronze(lakehouse, "events").next_offset(TopicPartition(topic, p)) for p in (0, 1)]
    assert after == progress
    version = DeltaTable(lakehouse / "bronze" / "events").version()
    again = replay(feed, lakehouse)
    assert (again.landed, again.rejected, again.already_there) == (0, 0, 16)
    assert DeltaTable(lakehouse / "bronze" / "events").version() == version


def test_history_before_the_start_is_landed_and_what_is_new_is_left_to_the_feed(
    broker: str, new_topic: NewTopic, send: Send, lakehouse: Path
) -> None:
    topic = new_topic(objects(0, 5))
    feed = kafka_feed(broker, topic, start={"*": "latest"})
    land(feed, lakehouse)
    send(topic, objects(5, 7))
    assert bronze_rows(lakehouse, "events") == []
    assert replay(feed, lakehouse).landed == 5
    assert [r["position"] for r in bronze_rows(lakehouse, "events")] == [0, 1, 2, 3, 4]
    assert land(feed, lakehouse).landed == 2
    assert_exactly_once(lakehouse, "events", 7)


def test_a_partition_that_was_never_landed_is_left_to_the_feed(
    broker: str, new_topic: NewTopic, lakehouse: Path
) -> None:
    feed = kafka_feed(broker, new_topic(objects(0, 5)))
    assert replay(feed, lakehouse) == Replayed("events")
    assert bronze_rows(lakehouse, "events") == []
    assert land(feed, lakehouse).landed == 5


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (2, None, [2, 3, 4, 5]),
        (None, 2, [0, 1]),
        (1, 4, [1, 2, 3]),
        (4, 1_000, [4, 5]),
        (3, 3, []),
        (HOUR_AGO + timedelta(seconds=4), None, [4, 5]),
        (HOUR_AGO + timedelta(seconds=1.5), HOUR_AGO + timedelta(seconds=4), [2, 3]),
        (HOUR_AGO + timedelta(seconds=60), None, []),
        (None, HOUR_AGO + timedelta(seconds=60), [0, 1, 2, 3, 4, 5]),
    ],
)
def test_only_the_interval_is_read(
    broker: str, new_topic: NewTopic, lakehouse: Path, start: Bound, end: Bound, expected: list[int]
) -> None:
    topic = new_topic([])
    producer = Producer({"bootstrap.servers": broker})
    for second in range(6):
        at = HOUR_AGO + timedelta(seconds=second)
        producer.produce(topic, b"{}", partition=0, timestamp=round(at.timestamp() * 1000))
    producer.flush()
    feed = kafka_feed(broker, topic)
    land(feed, lakehouse)
    delete(lakehouse, "true")
    done = replay(feed, lakehouse, start, end)
    assert [r["position"] for r in bronze_rows(lakehouse, "events")] == expected
    assert (done.landed, done.gone) == (len(expected), 0)


def test_offsets_without_a_record_do_not_widen_the_interval(
    broker: str, new_topic: NewTopic, send: Send, lakehouse: Path
) -> None:
    """The end of a transaction has an offset."""
    topic = new_topic()
    producer = Producer({"bootstrap.servers": broker, "transactional.id": topic, "log_level": 0})
    producer.init_transactions()
    producer.begin_transaction()
    for value in objects(0, 2):
        producer.produce(topic, value)
    producer.commit_transaction()
    send(topic, objects(3, 5))
    feed = kafka_feed(broker, topic)
    assert land(feed, lakehouse).landed == 4
    delete(lakehouse, "true")
    assert replay(feed, lakehouse, 0, 3).landed == 2
    assert [r["position"] for r in bronze_rows(lakehouse, "events")] == [0, 1]
    assert replay(feed, lakehouse, 2).landed == 2


def test_offsets_that_the_broker_has_deleted_are_said(
    broker: str, new_topic: NewTopic, lakehouse: Path
) -> None:
    topic = new_topic(objects(0, 8))
    feed = kafka_feed(broker, topic)
    land(feed, lakehouse)
    delete(lakehouse, "true")
    client = AdminClient({"bootstrap.servers": broker})
    for future in client.delete_records([kafka.KafkaPartition(topic, 0, 5)]).values():
        future.result()
    assert (replay(feed, lakehouse, 2, 4).gone, bronze_rows(lakehouse, "events")) == (2, [])
    done = replay(feed, lakehouse, 2)
    assert (done.gone, done.landed) == (3, 3)
    assert replay(feed, lakehouse).gone == 0


def test_records_that_are_deleted_while_they_are_read_are_said(
    broker: str, new_topic: NewTopic, lakehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = new_topic(objects(0, 8))
    feed = kafka_feed(broker, topic)
    land(feed, lakehouse)
    delete(lakehouse, "true")
    real = kafka.KafkaSource.read_again

    def lose(source: kafka.KafkaSource, at: TopicPartition, start: int, end: int) -> Any:
        if start == 0:
            client = AdminClient({"bootstrap.servers": broker})
            for future in client.delete_records([kafka.KafkaPartition(topic, 0, 5)]).values():
                future.result()
        return real(source, at, start, end)

    monkeypatch.setattr(kafka.KafkaSource, "read_again", lose)
    done = replay(feed, lakehouse, 0)
    assert (done.gone, done.landed) == (5, 3)


def test_a_poison_message_in_the_interval_is_rejected_and_its_neighbours_land(
    broker: str, new_topic: NewTopic, lakehouse: Path
) -> None:
    topic = new_topic([b"{}", b"\xff\xfe", (b"\xff", b"{}"), b"{}", None])
    feed = kafka_feed(broker, topic)
    land(feed, lakehouse)
    before = contents(lakehouse)
    delete(lakehouse, "true")
    done = replay(feed, lakehouse)
    assert (done.landed, done.rejected) == (3, 2)
    assert contents(lakehouse) == before
    assert {r["batch_id"] for r in quarantine_rows(lakehouse)} == {2}


def test_a_topic_that_was_made_anew_is_replayed_under_its_new_name_only(
    broker: str, new_topic: NewTopic, lakehouse: Path
) -> None:
    topic = new_topic(objects(0, 4))
    feed = kafka_feed(broker, topic, on_gap="continue")
    land(feed, lakehouse)
    client = AdminClient({"bootstrap.servers": broker})
    for future in client.delete_topics([topic]).values():
        future.result()
    new_topic([b'{"new":1}', b'{"new":2}'], name=topic)
    delete(lakehouse, "position < 2")
    with pytest.raises(FeedError, match=r"deleted and created again.*`ingest run` goes first"):
        replay(feed, lakehouse)
    land(feed, lakehouse)
    delete(lakehouse, f"source = '{topic}#2' and position = 0")
    assert replay(feed, lakehouse).landed == 1
    found = positions(bronze_rows(lakehouse, "events"))
    assert found == [(topic, 0, 2), (topic, 0, 3), (f"{topic}#2", 0, 0), (f"{topic}#2", 0, 1)]


def test_what_landed_before_an_end_was_cut_off_is_not_landed_under_the_new_name(
    broker: str, new_topic: NewTopic, lakehouse: Path
) -> None:
    """The stand-in has no topic ids, so that the tables are made as they are after a cut."""
    topic = new_topic(objects(0, 6))
    feed = kafka_feed(broker, topic)
    table, at = Bronze(lakehouse, "events"), TopicPartition(topic, 0)
    gap = places.Gap("cut", 3, anew=True)
    place = places.place_after(gap, 5, at, table)
    table.append([], 1, {**place.facts, place.address: 6}, NOW)
    assert replay(feed, lakehouse).landed == 3
    found = positions(bronze_rows(lakehouse, "events"))
    assert found == [(f"{topic}#2", 0, n) for n in (3, 4, 5)]


@pytest.mark.parametrize("moment", ["before the rejects", "between the commits"])
def test_the_live_feed_lands_meanwhile(
    broker: str,
    new_topic: NewTopic,
    send: Send,
    lakehouse: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    topic = new_topic(objects(0, 10, bad=4))
    feed = kafka_feed(broker, topic)
    land(feed, lakehouse)
    delete(lakehouse, "position > 5")
    table = bronze.Quarantine if moment == "before the rejects" else bronze.Bronze
    real = table.commit
    overtaken: list[bool] = []

    def overtake(*arguments: object) -> None:
        if not overtaken:
            overtaken.append(True)
            send(topic, objects(10, 14, bad=4))
            assert land(feed, lakehouse).batches == 1
        real(*arguments)  # type: ignore[arg-type]  # whatever they are

    monkeypatch.setattr(table, "commit", overtake)
    done = replay(feed, lakehouse)
    assert (done.landed, done.rejected, done.already_there) == (3, 1, 6)
    assert overtaken
    assert_exactly_once(lakehouse, "events", 14)


def test_a_feed_waits_for_its_turn_while_a_replay_commits(
    broker: str, new_topic: NewTopic, send: Send, lakehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a feed that commits quickly would overtake every try of the replay."""
    topic = new_topic(objects(0, 4))
    feed = kafka_feed(broker, topic)
    land(feed, lakehouse)
    delete(lakehouse, "true")
    send(topic, objects(4, 6))
    waiting, runs, batches = threading.Event(), [], []
    wait_for_lock, commit = bronze.wait_for_lock, Bronze.commit

    def wait(file: int, seconds: float) -> bool:
        if not wait_for_lock(file, 0):
            waiting.set()
        return wait_for_lock(file, seconds)

    def compete(table: Bronze, rows_: Any, batch_id: int, *arguments: Any) -> None:
        batches.append(batch_id)
        if not runs:
            monkeypatch.setattr(bronze, "wait_for_lock", wait)
            runs.append(pool.submit(land, feed, lakehouse))
            assert waiting.wait(20)
        commit(table, rows_, batch_id, *arguments)

    monkeypatch.setattr(Bronze, "commit", compete)
    with ThreadPoolExecutor(1) as pool:
        assert replay(feed, lakehouse).landed == 4
        assert runs[0].result(20).landed == 2
    assert batches == [2, 2, 3]  # the feed's try of batch 2 was refused
    assert_exactly_once(lakehouse, "events", 6)


def test_a_replay_goes_on_beside_a_feed_that_is_followed(
    broker: str, new_topic: NewTopic, send: Send, lakehouse: Path
) -> None:
    topic = new_topic(objects(0, 200))
    feed = kafka_feed(broker, topic, start={"*": "latest"}, batch_rows=20)
    land(feed, lakehouse)
    with running(lakehouse, feed) as results:
        for n in range(5):
            send(topic, objects(200 + n, 201 + n))
            replay(feed, lakehouse, 40 * n, 40 * n + 40)
        wait_for(lambda: len(bronze_rows(lakehouse, "events")) == 205)
    assert results[0].error is None
    assert_exactly_once(lakehouse, "events", 205)


@pytest.mark.parametrize("moment", ["before the rejects", "between the commits"])
def test_a_replay_of_another_machine_is_seen(
    broker: str, new_topic: NewTopic, lakehouse: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    topic = new_topic(objects(0, 10, bad=4))
    feed = kafka_feed(broker, topic)
    land(feed, lakehouse)
    for _ in range(2):  # the second time it is seen too
        delete(lakehouse, "true")
        replay(feed, lakehouse)
    delete(lakehouse, "true")
    table = bronze.Quarantine if moment == "before the rejects" else bronze.Bronze
    real = table.commit
    overtaken: list[bool] = []

    def overtake(*arguments: object) -> None:
        if not overtaken:
            overtaken.append(True)
            (lakehouse / "ingest" / "events.replay").unlink()  # another machine has its own
            replay(feed, lakehouse)
        real(*arguments)  # type: ignore[arg-type]  # whatever they are

    monkeypatch.setattr(table, "commit", overtake)
    done = replay(feed, lakehouse)
    expected = (0, 0) if moment == "before the rejects" else (0, 2)
    assert (done.landed, done.rejected) == expected
    assert_exactly_once(lakehouse, "events", 10)


def test_what_leaves_the_quarantine_meanwhile_is_found_in_bronze(
    broker: str, new_topic: NewTopic, lakehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the looks at the two tables another machine moves a record from one to the other."""
    feed = kafka_feed(broker, new_topic(objects(0, 4)), key=["id"])
    land(feed, lakehouse)
    loose = replace(feed, key=())
    moved: list[int] = []

    def after(real: Callable[[Any], None]) -> Callable[[Any], None]:
        def refresh(table: Any) -> None:
            real(table)
            if not moved:
                moved.append(0)
                (lakehouse / "ingest" / "events.replay").unlink()
                moved.append(quarantine.replay(loose, lakehouse, lambda: NOW).landed)

        return refresh

    for table in (bronze.Bronze, bronze.Quarantine):
        monkeypatch.setattr(table, "refresh", after(table.refresh))
    assert replay(loose, lakehouse).landed == 0
    assert moved == [0, 4]
    assert_exactly_once(lakehouse, "events", 4)


def test_a_second_replay_of_a_feed_is_refused_at_once(
    broker: str, new_topic: NewTopic, lakehouse: Path
) -> None:
    feed = kafka_feed(broker, new_topic(objects(0, 3)))
    land(feed, lakehouse)
    with module.alone("events", lakehouse / "ingest"):
        with pytest.raises(FeedError, match="another replay of this feed is running"):
            replay(feed, lakehouse)
        with pytest.raises(FeedError, match="another replay of this feed is running"):
            quarantine.replay(feed, lakehouse, lambda: NOW)
    assert replay(feed, lakehouse).already_there == 3


def test_a_crash_before_any_line_of_a_kafka_replay_loses_and_repeats_nothing(
    broker: str, new_topic: NewTopic, tmp_path: Path
) -> None:
    feed = kafka_feed(broker, new_topic(objects(0, 7, bad=3), objects(0, 4)), batch_rows=3)
    number = 0
    while True:
        number += CRASH_STEP
        lakehouse = tmp_path / str(number)
        land(feed, lakehouse)
        delete(lakehouse, "position > 0")
        with crash_before_line(number, [*PROTOCOL, module._replay_partition]) as reached:
            replay(feed, lakehouse)
        replay(feed, lakehouse)
        assert_exactly_once(lakehouse, "events", 11)
        assert land(feed, lakehouse).batches == 0
        if not reached:
            break
    assert number > 40  # the protocol was really walked through


# --- files --------------------------------------------------------------------------------------


def write(folder: Path, name: str, *lines: str, age: int = 100) -> Path:
    """Write a file that was modified `age` seconds before NOW."""
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines))
    stamp = int(NOW.timestamp()) - age
    os.utime(path, (stamp, stamp))
    return path


@pytest.fixture
def visits(landing: Path, lakehouse: Path) -> Feed:
    """Three landed files, of which every record was deleted from the tables."""
    write(landing, "a.ndjson", '{"id":1}', "broken", '{"id":2}', age=300)
    write(landing, "b.ndjson", '{"id":3}', age=200)
    write(landing, "c.ndjson", '{"id":4}', "broken", age=100)
    feed = file_feed(landing)
    land(feed, lakehouse)
    return feed


def test_deleted_rows_of_files_come_back_once(visits: Feed, landing: Path, lakehouse: Path) -> None:
    before = contents(lakehouse, "visits")
    delete(lakehouse, "true", "visits")
    done = replay(visits, lakehouse)
    assert (done.landed, done.rejected) == (4, 2)
    assert contents(lakehouse, "visits") == before
    assert replay(visits, lakehouse) == Replayed("visits", already_there=6)
    assert_exactly_once(lakehouse, "visits", 6)


def test_what_another_feed_has_rejected_is_nothing_to_this_one(
    visits: Feed, lakehouse: Path
) -> None:
    delete(lakehouse, "position = 1", "visits")
    land(replace(visits, name="other", key=("absent",)), lakehouse)
    assert replay(visits, lakehouse).landed == 3


def test_progress_of_files_is_not_moved_by_a_replay(
    visits: Feed, landing: Path, lakehouse: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The ledger is not taken for lost, and a file whose rows are gone is not landed again."""
    delete(lakehouse, "true", "visits")
    replay(visits, lakehouse, NOW - timedelta(seconds=150))
    write(landing, "d.ndjson", '{"id":5}', age=50)
    result = land(visits, lakehouse)
    assert (result.landed, result.batch_id) == (1, 3)
    assert "rebuilding" not in caplog.text
    assert positions(bronze_rows(lakehouse)) == [("c.ndjson", 0, 1), ("d.ndjson", 0, 1)]


def test_a_wrong_setting_writes_nothing(lakehouse: Path, landing: Path) -> None:
    absent = file_feed(landing / "absent")
    (landing / "absent").rmdir()
    for feed in (absent, kafka_feed("127.0.0.1:1", "t", connect_timeout_seconds=1)):
        with pytest.raises(ConfigError):
            replay(feed, lakehouse)
    assert not lakehouse.exists()


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(250, None, "bc"), (None, 200, "a"), (300, 100, "ab"), (99, None, "")],
)
def test_only_files_of_the_interval_are_read(
    visits: Feed, lakehouse: Path, start: int | None, end: int | None, expected: str
) -> None:
    delete(lakehouse, "true", "visits")
    times = [None if age is None else NOW - timedelta(seconds=age) for age in (start, end)]
    replay(visits, lakehouse, *times)
    assert {Path(r["source"]).name[0] for r in bronze_rows(lakehouse)} == set(expected)


def test_files_have_no_offsets(visits: Feed, lakehouse: Path) -> None:
    with pytest.raises(ConfigError, match="files have no offsets"):
        replay(visits, lakehouse, 3)


def test_files_that_are_gone_or_have_changed_are_said_and_not_read(
    visits: Feed, landing: Path, lakehouse: Path
) -> None:
    delete(lakehouse, "true", "visits")
    (landing / "a.ndjson").unlink()
    write(landing, "b.ndjson", '{"id":33}', age=20)
    write(landing, "new.ndjson", '{"id":9}')  # waits for a run
    done = replay(visits, lakehouse)
    assert (done.landed, done.changed, done.missing) == (1, 1, 1)
    assert {Path(r["source"]).name for r in bronze_rows(lakehouse)} == {"c.ndjson"}


def test_the_state_that_was_landed_last_is_replayed(landing: Path, lakehouse: Path) -> None:
    write(landing, "a.ndjson", '{"id":1}', age=300)
    feed = file_feed(landing, on_change="land_again")
    land(feed, lakehouse)
    write(landing, "a.ndjson", '{"id":1}', '{"id":2}', age=100)
    land(feed, lakehouse)
    delete(lakehouse, "true", "visits")
    done = replay(feed, lakehouse)
    assert (done.landed, done.changed) == (2, 0)
    assert positions(bronze_rows(lakehouse)) == [("a.ndjson", 1, 1), ("a.ndjson", 1, 2)]


def test_a_file_that_changes_while_it_is_read_is_not_landed(
    landing: Path, lakehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f'{{"id":{n}}}' for n in range(200_000)]
    path = write(landing, "a.ndjson", *lines)
    feed = file_feed(landing)
    land(feed, lakehouse)
    delete(lakehouse, "true", "visits")
    real = module.Landing.add
    seen: list[bool] = []

    def change(*arguments: Any) -> bool:
        seen.append(True)
        if len(seen) == 2:
            path.write_text("{}\n")
        return real(*arguments)

    monkeypatch.setattr(module.Landing, "add", change)
    done = replay(feed, lakehouse)
    assert (done.landed, done.rejected, done.changed) == (0, 0, 1)
    assert bronze_rows(lakehouse) == []


def test_a_large_file_comes_back_in_several_commits(
    landing: Path, lakehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMMIT_ROWS", 30_000)
    write(landing, "a.ndjson", *(f'{{"id":{n},"text":"{"x" * 50}"}}' for n in range(100_000)))
    feed = file_feed(landing)
    land(feed, lakehouse)
    delete(lakehouse, "position % 2 = 0", "visits")
    assert replay(feed, lakehouse).landed == 50_000
    assert Bronze(lakehouse, "visits").batch_id > 2
    assert_exactly_once(lakehouse, "visits", 100_000)


def test_settings_that_number_records_anew_land_nothing(landing: Path, lakehouse: Path) -> None:
    (landing / "a.csv").write_text('id,text\n1,"x\ny"\n2,z\n')
    feed = file_feed(landing, "csv", glob="*.csv")
    land(feed, lakehouse)
    before = contents(lakehouse, "visits")
    other = replace(feed, source=replace(feed.source, quote=""))
    done = replay(other, lakehouse)
    assert (done.landed, done.rejected, done.changed) == (0, 0, 1)
    assert contents(lakehouse, "visits") == before


def test_a_batch_that_was_planned_and_not_landed_is_not_lost_by_a_replay(
    visits: Feed, landing: Path, lakehouse: Path
) -> None:
    delete(lakehouse, "position = 1", "visits")
    write(landing, "d.ndjson", '{"id":5}', "broken", age=50)
    with crash_before_line(1, [bronze.Bronze.commit]) as reached:
        land(visits, lakehouse)
    assert reached
    assert replay(visits, lakehouse).landed == 3
    assert land(visits, lakehouse).batches == 0
    assert_exactly_once(lakehouse, "visits", 8)


def test_a_plan_that_is_made_while_files_are_read_is_not_lost(
    visits: Feed, landing: Path, lakehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete(lakehouse, "position = 1", "visits")
    real = module.Landing.flush
    seen: list[bool] = []

    def plan(landing_: module.Landing) -> None:
        if not seen:
            seen.append(True)
            write(landing, "d.ndjson", '{"id":5}', "broken", age=50)
            with crash_before_line(1, [bronze.Bronze.commit]) as reached:
                land(visits, lakehouse)
            assert reached
        real(landing_)

    monkeypatch.setattr(module.Landing, "flush", plan)
    assert replay(visits, lakehouse).landed == 3
    assert seen and land(visits, lakehouse).batches == 0
    assert_exactly_once(lakehouse, "visits", 8)


def test_a_replay_of_another_machine_does_not_make_a_plan_count_as_landed(
    visits: Feed, landing: Path, lakehouse: Path
) -> None:
    delete(lakehouse, "position = 1", "visits")
    write(landing, "d.ndjson", '{"id":5}', age=50)
    with crash_before_line(1, [bronze.Bronze.commit]) as reached:
        land(visits, lakehouse)
    assert reached
    here, kept = lakehouse / "ingest" / "ledger.sqlite", lakehouse / "kept"
    here.rename(kept)
    write(landing, "a.ndjson", "changed", age=20)  # else the rebuilt ledger lands it anew
    assert replay(visits, lakehouse).landed >= 1
    kept.rename(here)
    land(visits, lakehouse)
    assert ("d.ndjson", 0, 1) in positions(bronze_rows(lakehouse))


@pytest.mark.parametrize("between", ["a run", "nothing"])
def test_a_crash_before_any_line_of_a_replay_of_files_loses_and_repeats_nothing(
    landing: Path, tmp_path: Path, between: str
) -> None:
    write(landing, "a.ndjson", '{"id":1}', "broken", '{"id":2}', age=300)
    write(landing, "b.ndjson", "broken", age=200)
    feed = file_feed(landing)
    protocol = [*PROTOCOL, module.replay_files, files.FileSource.between_batches]
    protocol += [files.FileSource._claim, ledger.Ledger.rebuild, ledger.Ledger._insert]
    number = 0
    while True:
        number += CRASH_STEP
        lakehouse = tmp_path / str(number)
        land(feed, lakehouse)
        delete(lakehouse, "true" if number % 2 else "position = 2", "visits")
        (landing / "c.ndjson").unlink(missing_ok=True)
        with crash_before_line(number, protocol) as reached:
            replay(feed, lakehouse)
        write(landing, "c.ndjson", '{"id":7}', "broken", age=100)
        if between == "a run":
            land(feed, lakehouse)
        replay(feed, lakehouse)
        land(feed, lakehouse)
        assert_exactly_once(lakehouse, "visits", 6)
        if not reached:
            break
    assert number > 40  # the protocol was really walked through


def test_a_reject_whose_replay_was_cut_off_is_not_lost_to_the_next_run(
    visits: Feed, landing: Path, lakehouse: Path
) -> None:
    """A run takes out what it finds under the batch id that it is about to use."""
    delete(lakehouse, "position = 2", "visits")
    (landing / "a.ndjson").rename(landing / ".hidden")  # what is left to replay is a reject
    with crash_before_line(1, [bronze.Bronze.commit]) as reached:
        replay(visits, lakehouse)
    assert reached and len(quarantine_rows(lakehouse)) == 1
    replay(visits, lakehouse)
    write(landing, "d.ndjson", '{"id":5}', age=50)
    land(visits, lakehouse)
    assert positions(quarantine_rows(lakehouse)) == [("c.ndjson", 0, 2)]


def test_a_run_waits_for_a_replay_that_commits(
    visits: Feed, lakehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = threading.Event()

    def wait(file: int, seconds: float) -> bool:
        assert not bronze.wait_for_lock(file, 0)
        waiting.set()
        return bronze.wait_for_lock(file, seconds)

    source = files.FileSource(visits, visits.source, lakehouse / "ingest")  # type: ignore[arg-type]  # a file feed's
    with ThreadPoolExecutor(1) as pool:
        with source.lock():
            monkeypatch.setattr(files, "wait_for_lock", wait)
            run = pool.submit(land, visits, lakehouse)
            assert waiting.wait(20)
        assert run.result(20).error is None


def test_a_replay_goes_on_beside_a_feed_of_files_that_is_followed(
    visits: Feed, landing: Path, lakehouse: Path
) -> None:
    delete(lakehouse, "true", "visits")
    quick = replace(visits, trigger_seconds=0.1)
    with running(lakehouse, quick) as results:
        for n in range(5):
            write(landing, f"new{n}.ndjson", f'{{"id":{n}}}')
            replay(visits, lakehouse)
        wait_for(lambda: len(bronze_rows(lakehouse)) == 9)
    assert results[0].error is None
    assert_exactly_once(lakehouse, "visits", 11)


# --- rejects of files whose rows do not stand alone -----------------------------------------------


def retry(feed: Feed, lakehouse: Path) -> quarantine.Replay:
    return quarantine.replay(feed, lakehouse, lambda: NOW)


@pytest.fixture
def strict(landing: Path, lakehouse: Path) -> Feed:
    """A CSV feed whose key setting is wrong: two of four rows lack that field, one is broken."""
    write(landing, "a.csv", "id,name,mail", "1,ann,a@x", "2,,b@x", "3,cy", age=300)
    write(landing, "b.csv", "id,name,mail", "4,,d@x", age=200)
    feed = file_feed(landing, "csv", glob="*.csv", key=("name",))
    result = land(feed, lakehouse)
    assert (result.landed, result.rejected) == (1, 3)
    return feed


def test_rejected_rows_of_csv_files_land_after_a_corrected_setting(
    strict: Feed, lakehouse: Path
) -> None:
    loose = replace(strict, key=("id",))
    assert retry(strict, lakehouse).landed == 0
    done = retry(loose, lakehouse)
    assert (done.landed, done.still_rejected, done.batch_id) == (2, 1, 2)
    found = bronze_rows(lakehouse)
    assert positions(found) == [("a.csv", 0, 1), ("a.csv", 0, 2), ("b.csv", 0, 1)]
    assert found[1]["value"] == '{"id":"2","name":"","mail":"b@x"}'
    assert found[1]["key"] == '{"id":"2"}'
    assert [r["value"] for r in quarantine_rows(lakehouse)] == ["3,cy"]
    assert_exactly_once(lakehouse, "visits", 4)
    assert retry(loose, lakehouse).landed == 0
    assert land(loose, lakehouse).batches == 0


def test_rejected_rows_of_another_encoding_land_after_it_is_said(
    landing: Path, lakehouse: Path
) -> None:
    (landing / "a.csv").write_bytes("id,name\n1,ann\n2,zoé\n".encode("latin-1"))
    feed = file_feed(landing, "csv", glob="*.csv")
    assert land(feed, lakehouse).rejected == 1
    right = replace(feed, source=replace(feed.source, encoding="latin-1"))
    assert retry(right, lakehouse).landed == 1
    assert bronze_rows(lakehouse)[1]["value"] == '{"id":"2","name":"zoé"}'
    assert_exactly_once(lakehouse, "visits", 2)


def test_rejected_rows_of_files_that_are_gone_or_have_changed_stay(
    strict: Feed, landing: Path, lakehouse: Path
) -> None:
    write(landing, "a.csv", "id,name,mail", "1,ann,a@x", "9,,z@x", age=20)
    (landing / "b.csv").unlink()
    done = retry(replace(strict, key=("id",)), lakehouse)
    assert (done.landed, done.still_rejected, done.changed, done.missing) == (0, 3, 1, 1)


def test_a_folder_that_is_away_is_a_wrong_setting(
    strict: Feed, landing: Path, lakehouse: Path
) -> None:
    """Else its files would count as gone, and be taken out of what is planned."""
    landing.rename(landing.with_name("away"))
    with pytest.raises(ConfigError, match="is not a folder"):
        retry(strict, lakehouse)


def test_rows_that_a_setting_numbers_anew_stay_rejected(landing: Path, lakehouse: Path) -> None:
    (landing / "a.csv").write_text('id,text\n1,"x\ny"\n2,z\n3\n')
    feed = file_feed(landing, "csv", glob="*.csv", quote="")
    land(feed, lakehouse)
    before = contents(lakehouse, "visits")
    done = retry(replace(feed, source=replace(feed.source, quote='"')), lakehouse)
    assert (done.landed, done.still_rejected, done.changed) == (0, 2, 1)
    assert contents(lakehouse, "visits") == before


def test_rejected_rows_of_parquet_files_land_after_a_corrected_setting(
    landing: Path, lakehouse: Path
) -> None:
    import pyarrow as pa  # noqa: PLC0415 - for this one test
    import pyarrow.parquet as pq  # noqa: PLC0415

    pq.write_table(pa.table({"id": [1, 2], "name": ["ann", None]}), landing / "a.parquet")
    feed = file_feed(landing, "parquet", key=("name",))
    assert land(feed, lakehouse).rejected == 1
    assert retry(replace(feed, key=("id",)), lakehouse).landed == 1
    assert_exactly_once(lakehouse, "visits", 2)


def test_a_crash_before_any_line_of_a_retry_is_finished_by_the_next(
    landing: Path, tmp_path: Path
) -> None:
    write(landing, "a.csv", "id,name", "1,ann", "2,", "3,", "4,", age=300)
    feed = file_feed(landing, "csv", glob="*.csv", key=("name",))
    loose = replace(feed, key=("id",))
    protocol = [*PROTOCOL, quarantine.replay, quarantine._take_out, quarantine._Retry.select]
    number = 0
    while True:
        number += CRASH_STEP
        lakehouse = tmp_path / str(number)
        land(feed, lakehouse)
        with crash_before_line(number, protocol) as reached:
            retry(loose, lakehouse)
        assert retry(loose, lakehouse).still_rejected == 0
        assert_exactly_once(lakehouse, "visits", 4)
        if not reached:
            break
    assert number > 30  # the protocol was really walked through


# --- the command --------------------------------------------------------------------------------


def test_the_command_reads_times_and_says_what_it_did(
    visits: Feed, landing: Path, lakehouse: Path, tmp_path: Path
) -> None:
    feeds = tmp_path / "feeds.yml"
    feeds.write_text(
        f"feeds:\n  visits:\n    files: {{path: {landing}}}\n    format: ndjson\n    key: [id]\n"
    )
    delete(lakehouse, "true", "visits")
    (landing / "c.ndjson").unlink()

    def run(*arguments: str) -> Any:
        options = ["--feeds", str(feeds), "--lakehouse", str(lakehouse)]
        return CliRunner().invoke(main, ["replay", "visits", *arguments, *options])

    day = "2026-03-01T11:5"
    done = run("--from", f"{day}5:00Z", "--to", f"{day}6:00+00:00", "--json")
    assert (done.exit_code, json.loads(done.output)["landed"]) == (0, 2)
    assert run().output.endswith("1 landed, 0 rejected, 3 already there, 1 missing\n")
    assert run("--from", "yesterday").exit_code == 2
    assert run("--from", "2026-03-01T11:55:00").exit_code == 2  # of which zone?
    wrong = run("--to", "17")
    assert (wrong.exit_code, "give times" in wrong.output) == (2, True)
    with module.alone("visits", lakehouse / "ingest"):
        refused = run()
    assert refused.exit_code == 1
    assert "feed 'visits' failed: another replay" in refused.output


def test_a_reject_that_a_replay_of_another_machine_has_not_finished_is_not_repeated(
    broker: str, new_topic: NewTopic, lakehouse: Path
) -> None:
    topic = new_topic(objects(0, 4, bad=4))
    feed = kafka_feed(broker, topic)
    land(feed, lakehouse)
    delete(lakehouse, "true")
    tables = Tables(lakehouse, "events", lambda: NOW)
    reject = Reject(topic, 0, 3, None, "x", [], None, "bad")
    tables.quarantine.append([reject_rows([reject])], "events", 2, {bronze.REPLAY: 1}, NOW)
    assert replay(feed, lakehouse) == Replayed("events", landed=3, already_there=1)
    assert_exactly_once(lakehouse, "events", 4)
