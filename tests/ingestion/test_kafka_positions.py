"""Where a Kafka feed begins, and what it does when the records that it wants are gone."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions
from ingestion_helpers import (
    CRASH_STEP,
    NOW,
    assert_exactly_once,
    bronze_rows,
    crash_before_line,
    kafka_feed,
    land,
    positions,
    quarantine_rows,
    with_options,
)

from ingestion import bronze, kafka, places
from ingestion.broker import Broker
from ingestion.bronze import Bronze, TopicPartition
from ingestion.config import KafkaOptions, Start, load_feeds
from ingestion.errors import ConfigError
from ingestion.places import find_gap, start_offset

NewTopic = Callable[..., str]
Send = Callable[..., None]
# Retention deletes what is much older.
HOUR_AGO = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
GAP_PROTOCOL = [
    kafka.KafkaSource.land,
    kafka.KafkaSource._places,
    places.place_after,
    kafka.KafkaSource._settle,
    kafka.KafkaSource._commit,
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


def objects(start: int, end: int) -> list[bytes]:
    return [b'{"n":%d}' % n for n in range(start, end)]


def addresses(lakehouse: Path) -> list[tuple[int, int]]:
    """Partition and offset of what was landed."""
    return [(r["partition"], r["position"]) for r in bronze_rows(lakehouse, "events")]


# --- start --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("earliest", [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]),
        ("latest", []),
        (HOUR_AGO + timedelta(seconds=2), [(0, 1), (0, 2)]),
        (HOUR_AGO + timedelta(seconds=9), []),
        ({0: 2}, [(0, 2), (1, 0), (1, 1)]),
        ({0: 3, 1: 1}, [(1, 1)]),
    ],
)
def test_a_feed_without_progress_begins_where_it_is_told_and_never_begins_twice(
    broker: str,
    new_topic: NewTopic,
    lakehouse: Path,
    send: Send,
    start: Start,
    expected: list[tuple[int, int]],
) -> None:
    topic = new_topic([], [])
    producer = Producer({"bootstrap.servers": broker})
    for partition, seconds in [(0, 1), (0, 2), (0, 3), (1, 1), (1, 1)]:
        at = HOUR_AGO + timedelta(seconds=seconds)
        producer.produce(topic, b"{}", partition=partition, timestamp=round(at.timestamp() * 1000))
    producer.flush()
    feed = kafka_feed(broker, topic, start={"*": start})
    land(feed, lakehouse)
    assert addresses(lakehouse) == expected
    send(topic, objects(0, 1), 0)
    send(topic, objects(0, 1), 1)
    for again in (feed, with_options(feed, start={topic: "latest"})):
        land(again, lakehouse)
        assert addresses(lakehouse) == sorted([*expected, (0, 3), (1, 2)])


def test_a_start_at_the_end_loses_nothing_to_a_crash(
    broker: str, new_topic: NewTopic, send: Send, tmp_path: Path
) -> None:
    """Whatever came after the run had settled where to begin is landed by the next."""
    topic = new_topic(objects(0, 3))
    feed = kafka_feed(broker, topic, start={"*": "latest"})
    land(feed, tmp_path)
    table = Bronze(tmp_path, "events")
    assert (table.batch_id, table.next_offset(TopicPartition(topic, 0))) == (1, 3)
    send(topic, objects(3, 5))
    assert land(feed, tmp_path).landed == 2


def test_each_topic_may_begin_elsewhere(broker: str, new_topic: NewTopic, lakehouse: Path) -> None:
    first, second, third = (new_topic(objects(0, 3)) for _ in range(3))
    start = {first: "latest", second: {0: 1}, "*": "earliest"}
    land(kafka_feed(broker, first, second, third, start=start), lakehouse)
    found = positions(bronze_rows(lakehouse, "events"))
    assert found == [(second, 0, 1), (second, 0, 2), *((third, 0, n) for n in range(3))]


def test_what_appears_after_the_beginning_is_read_whole(
    broker: str, new_topic: NewTopic, lakehouse: Path
) -> None:
    first = new_topic(objects(0, 3))
    feed = kafka_feed(broker, pattern=f"{first}.*", start={"*": "latest"})
    assert land(feed, lakehouse).landed == 0
    new_topic(objects(0, 2), name=f"{first}-later")
    assert land(feed, lakehouse).landed == 2


def test_a_partition_that_is_added_later_is_read_whole_whatever_start_says(
    broker: str, new_topic: NewTopic, send: Send, lakehouse: Path
) -> None:
    topic = new_topic(objects(0, 3))
    feed = kafka_feed(broker, topic, start={"*": "latest"})
    land(feed, lakehouse)
    client = AdminClient({"bootstrap.servers": broker})
    for future in client.create_partitions([NewPartitions(topic, 2)]).values():
        future.result()
    send(topic, objects(0, 2), 1)
    assert land(feed, lakehouse).landed == 2


def test_an_offset_that_the_topic_does_not_hold_is_refused(
    broker: str, new_topic: NewTopic, lakehouse: Path
) -> None:
    topic = new_topic(objects(0, 3))
    result = land(kafka_feed(broker, topic, start={"*": {0: 4}}), lakehouse, fail=True)
    assert result.error is not None
    assert f"kafka.start: {topic}/0 holds offsets 0 to 3, not 4" in result.error


@pytest.mark.parametrize(
    ("start", "expected"),
    [("earliest", 5), ("latest", 9), ({1: 7}, 7), ({0: 7}, 5), (datetime.now(UTC), 9)],
)
def test_start_offset(start: Start, expected: int) -> None:
    assert start_offset(start, 1, 5, 9, lambda time: -1) == expected


# --- settings -----------------------------------------------------------------------------------


def options(tmp_path: Path, kafka_settings: str) -> KafkaOptions:
    """The Kafka options of a feeds file of one feed."""
    path = tmp_path / "feeds.yml"
    path.write_text(
        "kafka_settings: {bootstrap.servers: b}\n"
        f"feeds: {{events: {{format: json, kafka: {{{kafka_settings}}}}}}}\n"
    )
    (feed,) = load_feeds(path, {})
    assert isinstance(feed.source, KafkaOptions)
    return feed.source


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("topics: [t]", {}),
        ("topics: [t], start: latest", {"*": "latest"}),
        ("topics: [t], start: 2026-03-01T02:00:00+02:00", {"*": datetime(2026, 3, 1, tzinfo=UTC)}),
        ("topics: [t], start: '2026-03-01T00:00:00Z'", {"*": datetime(2026, 3, 1, tzinfo=UTC)}),
        ("pattern: a.*, start: {t: {0: 5, 1: 0}, '*': latest}", {"t": {0: 5, 1: 0}, "*": "latest"}),
    ],
)
def test_a_start_is_read(tmp_path: Path, text: str, start: dict[str, Start]) -> None:
    assert options(tmp_path, text).start == start


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("topics: [t], start: newest", "kafka.start: give earliest, latest"),
        ("topics: [t], start: 2026-03-01", "kafka.start: give earliest, latest"),
        ("topics: [t], start: '2026-03-01T00:00:00'", "kafka.start: give earliest, latest"),
        ("topics: [t], start: {t: {0: x}}", "kafka.start: give earliest, latest"),
        ("topics: [t], start: {u: latest}", "kafka.start: names 'u', which is not among"),
        ("topics: [t], pattern: t", "kafka.topics, pattern: give exactly one"),
        ("batch_rows: 1", "kafka.topics, pattern: give exactly one"),
        ("pattern: '['", "kafka.pattern: is no regular expression"),
        ("topics: [t], on_gap: ignore", "kafka.on_gap: 'ignore' is unknown"),
        ("topics: [t], discovery_seconds: 0", "discovery_seconds: must be a number of seconds"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        options(tmp_path, text)
    assert said in str(raised.value)


# --- gaps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("position", "known_id", "topic_id", "resume", "anew"),
    [
        (5, None, None, None, None),
        (10, None, None, None, None),
        (7, 1, 1, None, None),
        (7, None, 1, None, None),  # landed before ids were kept
        (7, 1, None, None, None),
        (7, 1, 2, 5, True),
        (4, 1, 1, 5, False),
        (4, 1, 2, 5, True),
        (11, None, None, 5, True),
        (11, 1, 1, 10, True),  # the same topic, but its end was cut off
        (11, 1, 2, 5, True),
    ],
)
def test_a_gap_is_found(
    position: int, known_id: int | None, topic_id: int | None, resume: int | None, anew: bool | None
) -> None:
    gap = find_gap(position, 5, 10, known_id, topic_id)
    assert (gap and gap.resume, gap and gap.anew) == (resume, anew)


def delete_before(broker: str, topic: str, offset: int) -> None:
    """Let retention delete the first records of a partition."""
    client = AdminClient({"bootstrap.servers": broker})
    for future in client.delete_records([kafka.KafkaPartition(topic, 0, offset)]).values():
        future.result()


def test_a_gap_by_retention_is_one_record_of_quarantine_and_reading_goes_on(
    broker: str,
    new_topic: NewTopic,
    lakehouse: Path,
    send: Send,
    caplog: pytest.LogCaptureFixture,
) -> None:
    topic = new_topic(objects(0, 3))
    feed = kafka_feed(broker, topic, on_gap="continue")
    land(feed, lakehouse)
    send(topic, objects(3, 7))
    delete_before(broker, topic, 5)
    result = land(feed, lakehouse)
    assert (result.landed, result.rejected) == (2, 1)
    assert addresses(lakehouse) == [(0, n) for n in (0, 1, 2, 5, 6)]
    (gap,) = quarantine_rows(lakehouse)
    assert (gap["source"], gap["partition"], gap["position"]) == (topic, 0, 3)
    assert (gap["feed"], gap["value"]) == ("events", None)
    assert gap["reason"].startswith("offsets 3 to 4 were deleted by the broker")
    assert gap["reason"] in caplog.text
    assert land(feed, lakehouse).batches == 0
    assert_exactly_once(lakehouse, "events", 6)


def make_anew(broker: str, topic: str, new_topic: NewTopic, records: list[bytes]) -> None:
    client = AdminClient({"bootstrap.servers": broker})
    for future in client.delete_topics([topic]).values():
        future.result()
    new_topic(records, name=topic)


def test_a_topic_made_anew_that_has_grown_past_the_landed_offset_is_known_by_its_id(
    broker: str, new_topic: NewTopic, lakehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, other = new_topic(objects(0, 3)), new_topic(objects(0, 3))
    ids = {topic: 1, other: 1}  # the stand-in has none
    monkeypatch.setattr(Broker, "topic_ids", lambda self, at: dict(ids))
    feed = kafka_feed(broker, topic, other)
    land(feed, lakehouse)
    make_anew(broker, topic, new_topic, objects(10, 16))
    ids[topic] = 2
    result = land(feed, lakehouse, fail=True)
    assert result.error is not None
    assert f"{topic}/0: the topic was deleted and created again" in result.error
    assert len(bronze_rows(lakehouse, "events")) == 6
    result = land(with_options(feed, on_gap="continue"), lakehouse)
    assert (result.landed, result.rejected) == (6, 1)
    anew = [r for r in bronze_rows(lakehouse, "events") if r["source"] == f"{topic}#2"]
    assert [(r["position"], r["value"]) for r in anew] == [
        (n, f'{{"n":{n + 10}}}') for n in range(6)
    ]
    (gap,) = quarantine_rows(lakehouse)
    assert (gap["source"], gap["position"]) == (topic, 3)
    assert_exactly_once(lakehouse, "events", 13)
    assert land(feed, lakehouse).batches == 0
    # And once more.
    make_anew(broker, topic, new_topic, [*objects(20, 28), b"broken"])
    ids[topic] = 3
    land(with_options(feed, on_gap="continue"), lakehouse)
    assert {r["source"] for r in bronze_rows(lakehouse, "events")} == {
        topic,
        other,
        f"{topic}#2",
        f"{topic}#3",
    }
    assert_exactly_once(lakehouse, "events", 13 + 9 + 1)


def test_what_was_read_while_a_topic_was_made_anew_is_read_again(
    broker: str, new_topic: NewTopic, lakehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = new_topic(objects(0, 3))
    answers = iter([{topic: 1}])  # at the beginning; at the commit it is another one
    monkeypatch.setattr(Broker, "topic_ids", lambda self, at: next(answers, {topic: 2}))
    assert land(kafka_feed(broker, topic), lakehouse).batches == 1
    assert Bronze(lakehouse, "events").next_offset(TopicPartition(f"{topic}#id", 0)) == 2
    assert_exactly_once(lakehouse, "events", 3)


@pytest.mark.parametrize("anew", [False, True])
def test_a_crash_while_a_gap_is_recorded_loses_and_repeats_nothing(
    broker: str,
    new_topic: NewTopic,
    tmp_path: Path,
    anew: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    topic = new_topic(objects(0, 7))
    delete_before(broker, topic, 5)
    monkeypatch.setattr(Broker, "topic_ids", lambda self, at: {topic: 2})
    feed = kafka_feed(broker, topic, on_gap="continue")
    number = 0
    while True:
        number += 3 * CRASH_STEP
        lakehouse = tmp_path / str(number)
        at = TopicPartition(topic, 0)
        Bronze(lakehouse, "events").append(
            [], 1, {at: 3, places.identity_key(at): 1 + (not anew)}, NOW
        )
        with crash_before_line(number, GAP_PROTOCOL, visits=2) as reached:
            land(feed, lakehouse)
        land(feed, lakehouse)
        assert_exactly_once(lakehouse, "events", 3)
        assert [r["position"] for r in quarantine_rows(lakehouse)] == [3]
        name = f"{topic}#2" if anew else topic
        assert positions(bronze_rows(lakehouse, "events")) == [(name, 0, 5), (name, 0, 6)]
        if not reached:
            break
    assert number > 40  # the protocol was really walked through
