"""Kafka feeds: each message of each partition is landed once, whatever happens in between."""

from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from ingestion_helpers import (
    CRASH_STEP,
    NOW,
    assert_exactly_once,
    bronze_rows,
    crash_before_line,
    kafka_feed,
    land,
    quarantine_rows,
)

from ingestion import bronze, kafka
from ingestion.errors import ConfigError

PROTOCOL = [
    kafka.KafkaSource.land,
    kafka.KafkaSource._drain,
    kafka.KafkaSource._land_batch,
    bronze.Tables.batch,
    bronze.BatchInProgress.add,
    bronze.BatchInProgress.reject,
    bronze.BatchInProgress.commit,
    bronze.BatchInProgress._commit_rejects,
    bronze._Table._commit,
    bronze.Rows.finish,
    bronze.Quarantine.commit,
    bronze.Bronze.commit,
]
NewTopic = Callable[..., str]


def numbers(start: int, end: int, bad: int = 5) -> list[bytes]:
    """JSON objects, of which every `bad`-th is malformed."""
    return [b'{"n":%d}' % n if n % bad else b'{"n":' for n in range(start, end)]


def test_a_message_is_landed_as_it_was_sent(
    broker: str, new_topic: NewTopic, lakehouse: Path
) -> None:
    value = b'{"n": 0.10000000000000000000000000000000001,  "b": "\xc3\xa9"}'
    topic = new_topic()
    producer = Producer({"bootstrap.servers": broker})
    headers = [("trace", b"x"), ("trace", b"y"), ("raw", b"\xff"), ("none", None)]
    producer.produce(topic, value=value, key=b"k", headers=headers, timestamp=1_772_366_400_123)
    producer.produce(topic, value=None, key=b"k")
    producer.flush()
    result = land(kafka_feed(broker, topic), lakehouse)
    assert (result.landed, result.rejected, result.batch_id) == (2, 0, 1)
    first, tombstone = bronze_rows(lakehouse, "events")
    assert (first["source"], first["partition"], first["position"]) == (topic, 0, 0)
    assert (first["key"], first["value"]) == ("k", value.decode())
    assert first["headers"] == {
        "trace": "x",
        "trace#2": "y",
        "raw": "/w==",
        "raw_encoding": "base64",
        "none": None,
    }
    assert first["source_timestamp"].timestamp() == 1_772_366_400.123
    assert first["ingested_at"] == NOW
    assert (tombstone["key"], tombstone["value"], tombstone["headers"]) == ("k", None, None)


def test_each_run_lands_what_came_since_the_last(
    broker: str, new_topic: NewTopic, send: Callable[..., None], lakehouse: Path
) -> None:
    topic = new_topic(numbers(1, 4), numbers(1, 3))
    feed = kafka_feed(broker, topic)
    assert land(feed, lakehouse).landed == 5
    assert land(feed, lakehouse).batches == 0
    send(topic, numbers(6, 8))
    result = land(feed, lakehouse)
    assert (result.landed, result.batch_id) == (2, 2)
    assert_exactly_once(lakehouse, "events", 7)


def test_a_feed_reads_several_topics(broker: str, new_topic: NewTopic, lakehouse: Path) -> None:
    first, second = new_topic([b"{}"]), new_topic([b"{}", b"{}"])
    assert land(kafka_feed(broker, first, second), lakehouse).landed == 3
    assert {r["source"] for r in bronze_rows(lakehouse, "events")} == {first, second}


def test_batches_are_bounded_by_rows_and_by_bytes(
    broker: str, new_topic: NewTopic, lakehouse: Path
) -> None:
    topic = new_topic(numbers(1, 11, bad=100))
    assert land(kafka_feed(broker, topic, batch_rows=4), lakehouse).batches == 3
    by_bytes = lakehouse.with_name("other")
    kafka_consume, kafka.CONSUME = kafka.CONSUME, 2
    try:
        assert land(kafka_feed(broker, topic, batch_bytes=1), by_bytes).batches == 5
    finally:
        kafka.CONSUME = kafka_consume
    for place in (lakehouse, by_bytes):
        assert_exactly_once(place, "events", 10)


@pytest.mark.parametrize("between", ["nothing", "key setting"])
def test_a_crash_before_any_line_loses_and_repeats_nothing(
    broker: str, new_topic: NewTopic, tmp_path: Path, between: str
) -> None:
    topic = new_topic(numbers(1, 8), numbers(3, 8))
    feed = kafka_feed(broker, topic, batch_rows=6)
    rerun = feed
    if between == "key setting":  # what was landed would be rejected now
        rerun = kafka_feed(broker, topic, batch_rows=5, key=["absent"])
    number = 0
    while True:
        number += CRASH_STEP
        lakehouse = tmp_path / str(number)
        with crash_before_line(number, PROTOCOL) as reached:
            land(feed, lakehouse)
        land(rerun, lakehouse)
        assert_exactly_once(lakehouse, "events", 12)
        if not reached:
            break
    assert number > 40  # the protocol was really walked through


@pytest.mark.parametrize("moment", ["before the rejects", "between the commits"])
def test_two_processes_on_one_feed_land_each_message_once(
    broker: str,
    new_topic: NewTopic,
    send: Callable[..., None],
    lakehouse: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    topic = new_topic(numbers(1, 21))
    slow, fast = kafka_feed(broker, topic), kafka_feed(broker, topic, batch_rows=7)
    real = bronze.BatchInProgress._commit_rejects
    overtaken = []

    def overtake(batch: bronze.BatchInProgress) -> None:
        """While one process is about to commit, the other lands everything, and more comes."""
        is_first = not overtaken
        overtaken.append(True)
        if not is_first or moment == "between the commits":
            real(batch)
        if is_first:
            assert land(fast, lakehouse).batches == 3
            send(topic, numbers(21, 26))
        if is_first and moment == "before the rejects":
            real(batch)

    monkeypatch.setattr(bronze.BatchInProgress, "_commit_rejects", overtake)
    land(slow, lakehouse)
    assert overtaken
    land(slow, lakehouse)
    assert_exactly_once(lakehouse, "events", 25)


def test_a_bronze_table_made_anew_repeats_no_reject(
    broker: str, new_topic: NewTopic, lakehouse: Path
) -> None:
    feed = kafka_feed(broker, new_topic(numbers(1, 8)))
    land(feed, lakehouse)
    (lakehouse / "bronze" / "events").rename(lakehouse / "set_aside")
    assert land(feed, lakehouse).landed == 6
    assert_exactly_once(lakehouse, "events", 7)


def test_ends_of_transactions_are_progress_and_aborted_messages_are_not_landed(
    broker: str, new_topic: NewTopic, lakehouse: Path
) -> None:
    topic = new_topic()
    settings = {"bootstrap.servers": broker, "transactional.id": topic, "log_level": 0}
    producer = Producer(settings)
    producer.init_transactions()
    for commit in (True, False):
        producer.begin_transaction()
        producer.produce(topic, value=b'{"committed":%d}' % commit)
        producer.flush()
        if commit:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
    feed = kafka_feed(broker, topic)
    assert land(feed, lakehouse).landed == 1
    (row,) = bronze_rows(lakehouse, "events")
    assert row["value"] == '{"committed":1}'
    source = kafka.KafkaSource(feed, feed.source)  # type: ignore[arg-type]  # a Kafka feed's
    table = bronze.Bronze(lakehouse, "events")
    assert source.lag(table) == {"messages": 0}
    source.close()
    assert table.next_offset(bronze.TopicPartition(topic, 0)) == 4


def test_offsets_that_retention_deleted_stop_the_feed(
    broker: str, new_topic: NewTopic, send: Callable[..., None], lakehouse: Path
) -> None:
    topic = new_topic(numbers(1, 4))
    feed = kafka_feed(broker, topic)
    land(feed, lakehouse)
    send(topic, numbers(6, 10))
    client = AdminClient({"bootstrap.servers": broker})
    for future in client.delete_records([kafka.KafkaPartition(topic, 0, 5)]).values():
        future.result()
    result = land(feed, lakehouse, fail=True)
    assert (result.landed, result.batches) == (0, 0)
    assert result.error is not None
    assert f"{topic}/0: offsets 3 to 4 were deleted by the broker" in result.error


def test_a_topic_that_was_made_anew_stops_the_feed(
    broker: str, new_topic: NewTopic, lakehouse: Path
) -> None:
    topic = new_topic(numbers(1, 4))
    feed = kafka_feed(broker, topic)
    land(feed, lakehouse)
    client = AdminClient({"bootstrap.servers": broker})
    for future in client.delete_topics([topic]).values():
        future.result()
    new_topic([b"{}"], name=topic)
    result = land(feed, lakehouse, fail=True)
    assert result.error is not None
    assert "was the topic deleted and created again?" in result.error
    assert len(bronze_rows(lakehouse, "events")) == 3


def test_a_partition_that_is_added_later_is_read_from_its_beginning(
    broker: str, new_topic: NewTopic, send: Callable[..., None], lakehouse: Path
) -> None:
    topic = new_topic(numbers(1, 4))
    feed = kafka_feed(broker, topic)
    land(feed, lakehouse)
    client = AdminClient({"bootstrap.servers": broker})
    for future in client.create_partitions([kafka_new_partitions(topic, 2)]).values():
        future.result()
    send(topic, numbers(1, 3), 1)
    assert land(feed, lakehouse).landed == 2
    assert_exactly_once(lakehouse, "events", 5)


def kafka_new_partitions(topic: str, count: int) -> object:
    from confluent_kafka.admin import NewPartitions  # noqa: PLC0415 - for this one test

    return NewPartitions(topic, count)


def test_an_unknown_topic_is_a_wrong_setting(
    broker: str, new_topic: NewTopic, lakehouse: Path
) -> None:
    new_topic()
    with pytest.raises(ConfigError, match=r"kafka.topics: there is no topic 'nowhere'"):
        land(kafka_feed(broker, "nowhere"), lakehouse)
    topics = AdminClient({"bootstrap.servers": broker}).list_topics(timeout=10).topics
    assert "nowhere" not in topics  # asking for it did not make it
    assert not lakehouse.exists()


def test_an_unknown_client_setting_is_a_wrong_setting(broker: str, lakehouse: Path) -> None:
    feed = kafka_feed(broker, "t")
    feed.source.settings["no.such.setting"] = "1"  # type: ignore[index, union-attr]  # a dict here
    with pytest.raises(ConfigError, match=r"kafka.settings: .*no.such.setting"):
        land(feed, lakehouse)


def test_an_unreachable_broker_is_a_wrong_setting(lakehouse: Path) -> None:
    feed = kafka_feed("127.0.0.1:1", "t", connect_timeout_seconds=1)
    with pytest.raises(ConfigError, match=r"cannot reach a broker at 127.0.0.1:1 \(.*refused"):
        land(feed, lakehouse)
    assert not lakehouse.exists()


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"\xff\xfe", "the value is not valid UTF-8"),
        ((b"\xff", b"{}"), "the key is not valid UTF-8"),
        (b"[1]", "not a JSON object"),
    ],
)
def test_a_poison_message_goes_to_quarantine_and_its_neighbours_land(
    broker: str, new_topic: NewTopic, lakehouse: Path, message: object, reason: str
) -> None:
    result = land(kafka_feed(broker, new_topic([b"{}", message, b"{}"])), lakehouse)
    assert (result.landed, result.rejected) == (2, 1)
    assert result.reasons == {reason: 1}
    (reject,) = quarantine_rows(lakehouse)
    assert (reject["feed"], reject["position"], reject["reason"]) == ("events", 1, reason)
    if message == b"\xff\xfe":
        assert (reject["value"], reject["headers"]) == ("//4=", {"value_encoding": "base64"})
    if isinstance(message, tuple):
        assert (reject["key"], reject["headers"]) == ("/w==", {"key_encoding": "base64"})


def test_a_timestamp_beyond_the_calendar_is_landed_as_null(
    broker: str, new_topic: NewTopic, lakehouse: Path
) -> None:
    topic = new_topic()
    producer = Producer({"bootstrap.servers": broker})
    producer.produce(topic, value=b"{}", timestamp=2**62)
    producer.produce(topic, value=b"{}", timestamp=1000)
    producer.flush()
    assert land(kafka_feed(broker, topic), lakehouse).landed == 2
    found = [r["source_timestamp"] for r in bronze_rows(lakehouse, "events")]
    assert found[0] is None
    assert found[1].timestamp() == 1
