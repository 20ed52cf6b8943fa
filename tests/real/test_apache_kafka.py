"""Kafka feeds on Apache Kafka itself: what only a real broker does, landed exactly once."""

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, IsolationLevel, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from confluent_kafka.admin import NewTopic as TopicSpec

from ingestion import bronze, runner
from ingestion import kafka as kafka_source
from ingestion.config import Feed, KafkaOptions
from tests.ingestion.ingestion_helpers import (
    assert_exactly_once,
    bronze_rows,
    land,
    quarantine_rows,
    running,
    wait_for,
)
from tests.support.apache_kafka import ApacheKafka

NewTopic = Callable[..., str]
Send = Callable[..., None]
SMALL_FETCHES = {
    "queued.max.messages.kbytes": "1",
    "fetch.message.max.bytes": "20000",
    "reconnect.backoff.max.ms": "500",  # after a restart
}


def events(broker: str, *topics: str, settings: Mapping[str, str] = {}, **options: Any) -> Feed:
    """A feed over topics, with the client's own defaults: no setting that the stand-in needs."""
    source = KafkaOptions(topics, {"bootstrap.servers": broker, **settings}, **options)
    return Feed("events", "json", source, file="feeds.yml")


def numbers(start: int, end: int) -> list[bytes]:
    return [b'{"n":%d}' % n for n in range(start, end)]


def large_numbers(start: int, end: int) -> list[bytes]:
    """Objects of 20 KB: with SMALL_FETCHES a run must ask the broker for them again and again."""
    return [b'{"n":%d,"text":"%s"}' % (n, b"x" * 20_000) for n in range(start, end)]


def landed_numbers(lakehouse: Path) -> list[int]:
    """The numbers in bronze, in the order of their addresses."""
    return [json.loads(row["value"])["n"] for row in bronze_rows(lakehouse, "events")]


def create(broker: str, name: str, partitions: int = 1, **config: str) -> str:
    client = AdminClient({"bootstrap.servers": broker})
    spec = TopicSpec(
        name, partitions, 1, config={k.replace("_", "."): v for k, v in config.items()}
    )
    client.create_topics([spec])[name].result()
    return name


def delete(broker: str, name: str) -> None:
    """Delete a topic, and wait until the broker has forgotten it."""
    client = AdminClient({"bootstrap.servers": broker})
    client.delete_topics([name], operation_timeout=10)[name].result()
    wait_for(lambda: name not in client.list_topics(timeout=5).topics)


def delete_records(broker: str, topic: str, before: int) -> None:
    client = AdminClient({"bootstrap.servers": broker})
    for future in client.delete_records([TopicPartition(topic, 0, before)]).values():
        future.result()


def transactional_producer(broker: str, name: str) -> Producer:
    # It lives until it is collected, perhaps while the broker is stopped: not a word of that.
    producer = Producer({"bootstrap.servers": broker, "transactional.id": name, "log_level": 0})
    producer.init_transactions()
    return producer


def wait_for_decisions(broker: str, topic: str, partitions: int = 1) -> None:
    """Wait until no transaction is open: its end is answered before each partition has its mark."""
    client = AdminClient({"bootstrap.servers": broker})
    asked = {TopicPartition(topic, n): OffsetSpec.latest() for n in range(partitions)}

    def ends(level: IsolationLevel) -> list[int]:
        found = client.list_offsets(asked, isolation_level=level)
        return [found[at].result().offset for at in asked]

    wait_for(lambda: ends(IsolationLevel.READ_COMMITTED) == ends(IsolationLevel.READ_UNCOMMITTED))


def lag(feed: Feed, lakehouse: Path) -> dict[str, int]:
    assert isinstance(feed.source, KafkaOptions)
    source = kafka_source.KafkaSource(feed, feed.source)
    try:
        return source.lag(bronze.Bronze(lakehouse, "events"))
    finally:
        source.close()


@pytest.fixture
def at_commit(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], list[int]]:
    """Do something just before the n-th batch of the test is committed to bronze."""

    def arrange(number: int, act: Callable[[], None]) -> list[int]:
        real = bronze.Bronze.commit
        seen: list[int] = []

        def commit(*arguments: Any) -> None:
            seen.append(len(seen) + 1)
            if len(seen) == number:
                act()
            real(*arguments)

        monkeypatch.setattr(bronze.Bronze, "commit", commit)
        return seen

    return arrange


# --- exactly once -------------------------------------------------------------------------------


def test_each_record_of_each_partition_is_landed_once(
    broker: str, new_topic: NewTopic, send: Send, lakehouse: Path
) -> None:
    parts = [numbers(0, 500), numbers(500, 510), [], numbers(510, 1500)]
    parts[1].insert(5, b"not json")
    topic, other = new_topic(*parts), new_topic(numbers(1500, 1600))
    feed = events(broker, topic, other, batch_rows=300)
    result = land(feed, lakehouse)
    assert (result.landed, result.rejected) == (1600, 1)
    assert result.batches >= 6
    assert land(feed, lakehouse).batches == 0
    send(topic, numbers(1600, 1610), 2)
    assert land(feed, lakehouse).landed == 10
    assert sorted(landed_numbers(lakehouse)) == list(range(1610))
    assert_exactly_once(lakehouse, "events", 1611)
    for partition, sent in enumerate(parts):
        found = [r for r in bronze_rows(lakehouse, "events") if r["source"] == topic]
        positions = [r["position"] for r in found if r["partition"] == partition]
        rejected = [r["position"] for r in quarantine_rows(lakehouse)] if partition == 1 else []
        assert sorted(positions + rejected) == list(range(len(sent) or 10))
    assert lag(feed, lakehouse) == {"messages": 0}


# --- transactions -------------------------------------------------------------------------------


def test_only_committed_records_land_however_the_ends_of_transactions_fall(
    broker: str, new_topic: NewTopic, lakehouse: Path
) -> None:
    topic = new_topic([], [])
    producer = transactional_producer(broker, topic)
    committed = []
    for transaction in range(12):
        producer.begin_transaction()
        for n in range(transaction * 10, transaction * 10 + 1 + transaction % 4):
            producer.produce(topic, value=b'{"n":%d}' % n, partition=n % 2)
            if transaction % 3 != 1:
                committed.append(n)
        producer.flush()
        if transaction % 3 == 1:
            producer.abort_transaction()
        else:
            producer.commit_transaction()
    wait_for_decisions(broker, topic, 2)
    feed = events(broker, topic, batch_rows=3)
    land(feed, lakehouse)
    assert sorted(landed_numbers(lakehouse)) == committed
    assert_exactly_once(lakehouse, "events", len(committed))
    # What is left of the offsets are marks and aborted records: nothing to do for the next run.
    assert lag(feed, lakehouse) == {"messages": 0}
    assert land(feed, lakehouse).batches == 0
    producer.begin_transaction()
    producer.produce(topic, value=b'{"n":999}', partition=0)
    producer.commit_transaction()
    wait_for_decisions(broker, topic, 2)
    assert land(feed, lakehouse).landed == 1
    assert_exactly_once(lakehouse, "events", len(committed) + 1)


def test_a_partition_that_ends_in_aborted_records_is_drained_without_waiting(
    broker: str, new_topic: NewTopic, lakehouse: Path
) -> None:
    topic = new_topic(numbers(0, 5))
    producer = transactional_producer(broker, topic)
    producer.begin_transaction()
    for n in range(100, 150):
        producer.produce(topic, value=b'{"n":%d}' % n)
    producer.flush()
    producer.abort_transaction()
    wait_for_decisions(broker, topic)
    feed = events(broker, topic, batch_rows=5)
    result = land(feed, lakehouse)
    assert result.landed == 5
    assert result.seconds < 10
    assert lag(feed, lakehouse) == {"messages": 0}


def test_what_is_behind_an_open_transaction_lands_when_it_is_committed(
    broker: str, new_topic: NewTopic, send: Send, lakehouse: Path
) -> None:
    topic = new_topic(numbers(0, 3))
    producer = transactional_producer(broker, topic)
    producer.begin_transaction()
    producer.produce(topic, value=b'{"n":3}')
    producer.flush()
    send(topic, numbers(4, 6))
    feed = events(broker, topic)
    result = land(feed, lakehouse)
    assert result.landed == 3
    assert result.seconds < 10
    producer.commit_transaction()
    wait_for_decisions(broker, topic)
    assert land(feed, lakehouse).landed == 3
    assert landed_numbers(lakehouse) == list(range(6))


# --- the broker fails ---------------------------------------------------------------------------


def test_a_broker_killed_during_a_run_and_restarted_between_runs_loses_and_repeats_nothing(
    kafka: ApacheKafka,
    new_topic: NewTopic,
    send: Send,
    lakehouse: Path,
    at_commit: Callable[..., list[int]],
) -> None:
    topic = new_topic(large_numbers(0, 100), large_numbers(100, 200))
    feed = events(kafka.address, topic, settings=SMALL_FETCHES, batch_rows=20)
    seen = at_commit(3, lambda: kafka.restart(kill=True))
    result = land(feed, lakehouse)
    assert (len(seen), result.landed) == (result.batches, 200)
    kafka.restart()
    send(topic, numbers(200, 210))
    assert land(feed, lakehouse).landed == 10
    assert sorted(landed_numbers(lakehouse)) == list(range(210))
    assert_exactly_once(lakehouse, "events", 210)


def test_a_broker_killed_under_a_continuous_run_is_waited_for(
    kafka: ApacheKafka,
    new_topic: NewTopic,
    send: Send,
    lakehouse: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "RETRY_SECONDS", (0.1, 1.0))
    topic = new_topic(numbers(0, 10), numbers(10, 20))
    settings = {"reconnect.backoff.max.ms": "500"}
    feed = events(kafka.address, topic, settings=settings, connect_timeout_seconds=3)
    with running(lakehouse, feed) as results:
        for turn in range(1, 3):
            wait_for(lambda turn=turn: len(landed_numbers(lakehouse)) == 20 * turn)
            kafka.restart(kill=True)
            send(topic, numbers(20 * turn, 20 * turn + 20), turn % 2)
        wait_for(lambda: len(landed_numbers(lakehouse)) == 60)
    assert results[0].error is None
    assert sorted(landed_numbers(lakehouse)) == list(range(60))
    assert_exactly_once(lakehouse, "events", 60)


def test_a_broker_that_does_not_come_back_fails_the_feed_and_keeps_what_was_landed(
    kafka: ApacheKafka, new_topic: NewTopic, lakehouse: Path, at_commit: Callable[..., list[int]]
) -> None:
    topic = new_topic(large_numbers(0, 200))
    feed = events(
        kafka.address,
        topic,
        settings=SMALL_FETCHES,
        batch_rows=20,
        connect_timeout_seconds=3,
        stall_timeout_seconds=1,
    )
    at_commit(3, kafka.stop)
    try:
        result = land(feed, lakehouse, fail=True)
        assert result.error is not None
        assert 60 <= result.landed < 200
        assert_exactly_once(lakehouse, "events", result.landed)
    finally:
        kafka.start()
    assert land(feed, lakehouse).landed == 200 - result.landed
    assert landed_numbers(lakehouse) == list(range(200))


# --- records that are gone ----------------------------------------------------------------------


def test_records_deleted_before_they_were_landed_stop_the_feed(
    broker: str, new_topic: NewTopic, send: Send, lakehouse: Path
) -> None:
    topic = new_topic(numbers(0, 3))
    feed = events(broker, topic)
    land(feed, lakehouse)
    send(topic, numbers(3, 10))
    delete_records(broker, topic, 3)
    assert land(events(broker, topic, batch_rows=2), lakehouse).landed == 7  # none was missed
    send(topic, numbers(10, 15))
    delete_records(broker, topic, 12)
    result = land(feed, lakehouse, fail=True)
    assert result.landed == 0
    assert f"{topic}/0: offsets 10 to 11 were deleted by the broker" in str(result.error)


def test_retention_that_overtakes_the_reader_between_runs_stops_the_feed(
    broker: str, send: Send, lakehouse: Path
) -> None:
    topic = create(broker, "retention", retention_bytes="1", segment_bytes="1048576")
    big = b'{"n":0,"text":"%s"}' % (b"x" * 600_000)
    send(topic, [big])
    feed = events(broker, topic)
    land(feed, lakehouse)
    send(topic, [big] * 6)
    # Landing before the broker has deleted anything would find no gap, and never again.
    with closing(Consumer({"bootstrap.servers": broker, "group.id": topic})) as consumer:
        wait_for(lambda: consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=5)[0] > 1)
    assert "deleted by the broker" in str(land(feed, lakehouse, fail=True).error)


def test_deletion_that_overtakes_the_reader_during_a_run_stops_the_feed(
    broker: str, new_topic: NewTopic, lakehouse: Path, at_commit: Callable[..., list[int]]
) -> None:
    topic = new_topic(large_numbers(0, 200))
    feed = events(broker, topic, settings=SMALL_FETCHES, batch_rows=5)
    at_commit(2, lambda: delete_records(broker, topic, 150))
    result = land(feed, lakehouse, fail=True)
    assert result.error is not None
    landed = landed_numbers(lakehouse)
    assert landed == list(range(len(landed)))  # no gap: it stopped where records are missing
    assert 10 <= len(landed) < 150
    again = land(feed, lakehouse, fail=True)
    assert f"offsets {len(landed)} to 149 were deleted by the broker" in str(again.error)


@pytest.mark.parametrize("count", [4, 40], ids=["fewer", "more"])
def test_a_topic_made_anew_with_fewer_or_more_records_stops_the_feed(
    broker: str, lakehouse: Path, send: Send, count: int
) -> None:
    topic = create(broker, f"made-anew-{count}")
    send(topic, numbers(0, 10))
    feed = events(broker, topic)
    land(feed, lakehouse)
    delete(broker, topic)
    create(broker, topic)
    send(topic, numbers(100, 100 + count))
    result = land(feed, lakehouse, fail=True)
    assert result.landed == 0
    assert "deleted and created again" in str(result.error)


def test_holes_left_by_compaction_are_no_loss(broker: str, send: Send, lakehouse: Path) -> None:
    topic = create(
        broker,
        "compacted",
        cleanup_policy="compact",
        segment_ms="100",
        min_cleanable_dirty_ratio="0.01",
    )
    feed = events(broker, topic)
    everything = lakehouse / "before"
    sent = 0

    def compacted() -> bool:
        """Send more (a segment closes only when a record comes) until something has gone."""
        nonlocal sent
        send(topic, [(b"k%d" % (n % 3), b'{"n":%d}' % n) for n in range(sent, sent + 20)])
        sent += 20
        probe = lakehouse / str(sent)
        land(feed, probe)
        return len(bronze_rows(probe, "events")) < sent

    land(feed, everything)
    wait_for(compacted)
    found = landed_numbers(lakehouse / str(sent))
    assert found == sorted(set(found))
    assert set(found) >= {sent - 1, sent - 2, sent - 3}
    assert lag(feed, lakehouse / str(sent)) == {"messages": 0}
    assert land(feed, lakehouse / str(sent)).batches == 0


# --- what a record may be -----------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed_records_are_landed_as_they_were(
    broker: str, new_topic: NewTopic, lakehouse: Path, codec: str
) -> None:
    topic = new_topic()
    producer = Producer({"bootstrap.servers": broker, "compression.type": codec, "linger.ms": 50})
    values = [b'{"n":%d,"text":"%s"}' % (n, b"again and " * 20) for n in range(300)]
    for value in values:
        producer.produce(topic, value=value)
    assert producer.flush(10) == 0
    assert land(events(broker, topic, batch_rows=70), lakehouse).landed == 300
    found = bronze_rows(lakehouse, "events")
    assert [row["value"].encode() for row in found] == values


def test_keys_headers_times_and_tombstones_are_landed_as_they_were_sent(
    broker: str, new_topic: NewTopic, lakehouse: Path
) -> None:
    topic = new_topic()
    producer = Producer({"bootstrap.servers": broker})
    headers = [("trace", b"a"), ("trace", b"b"), ("empty", b""), ("none", None), ("raw", b"\xff")]
    producer.produce(
        topic, value=b'{"n":0}', key=b"k", headers=headers, timestamp=1_772_366_400_123
    )
    producer.produce(topic, value=None, key=b"k")
    producer.produce(topic, value=b'{"n":2}', key=None)
    producer.produce(topic, value=b'{"n":3}', key=b"")
    producer.produce(topic, value=b"", key=b"k")
    assert producer.flush(10) == 0
    result = land(events(broker, topic), lakehouse)
    assert (result.landed, result.rejected) == (4, 1)
    first, tombstone, without_key, empty_key = bronze_rows(lakehouse, "events")
    assert first["headers"] == {
        "trace": "a",
        "trace#2": "b",
        "empty": "",
        "none": None,
        "raw": "/w==",
        "raw_encoding": "base64",
    }
    assert first["source_timestamp"].timestamp() == 1_772_366_400.123
    assert (tombstone["key"], tombstone["value"], tombstone["headers"]) == ("k", None, None)
    assert (without_key["key"], empty_key["key"]) == (None, "")
    (empty,) = quarantine_rows(lakehouse)
    assert (empty["position"], empty["key"], empty["value"]) == (4, "k", "")


def test_a_record_of_5_mb_lands_between_its_neighbours(broker: str, lakehouse: Path) -> None:
    topic = create(broker, "large", max_message_bytes="6000000")
    producer = Producer({"bootstrap.servers": broker, "message.max.bytes": 6_000_000})
    large = b'{"n":1,"text":"%s"}' % (b"0123456789" * 524_288)
    for value in (b'{"n":0}', large, b'{"n":2}'):
        producer.produce(topic, value=value)
    assert producer.flush(30) == 0
    assert land(events(broker, topic), lakehouse).landed == 3
    found = bronze_rows(lakehouse, "events")
    assert found[1]["value"].encode() == large
    assert landed_numbers(lakehouse) == [0, 1, 2]
