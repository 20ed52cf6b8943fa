"""`ingest run --engine spark`, as a process of its own."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from tests.ingestion.ingestion_helpers import bronze_rows, quarantine_rows, wait_for
from tests.support.ingest import INGEST

NewTopic = Callable[..., str]
Send = Callable[..., None]


def numbers(start: int, end: int) -> list[bytes]:
    return [b'{"id":%d}' % n for n in range(start, end)]


@pytest.fixture
def ingest(
    spark_address: str, spark: Any, lakehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Begin `ingest run --engine spark` with some feeds."""
    monkeypatch.setenv("SPARK_REMOTE", spark_address)
    begun = []

    def begin(feeds: dict[str, Any], broker: str, *options: str) -> subprocess.Popen[str]:
        lakehouse.mkdir(exist_ok=True)
        file = lakehouse / "feeds.yml"
        # The second is one of librdkafka that Spark does without.
        kafka_settings = {"bootstrap.servers": broker, "receive.message.max.bytes": 100_000_000}
        file.write_text(yaml.safe_dump({"kafka_settings": kafka_settings, "feeds": feeds}))
        places = ("--feeds", str(file), "--lakehouse", str(lakehouse), "--json")
        command = [INGEST, "run", "--engine", "spark", *options, *places]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=lakehouse
        )
        begun.append(process)
        return process

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def test_a_continuous_run_lands_what_comes_until_it_is_told_to_end(
    broker: str, new_topic: NewTopic, send: Send, lakehouse: Path, ingest: Callable[..., Any]
) -> None:
    topic = new_topic(numbers(0, 10))
    feeds = {
        "events": {"kafka": {"topics": [topic]}, "format": "json"},
        "late": {"kafka": {"topics": [topic], "start": "latest"}, "format": "json"},
    }
    process = ingest(feeds, broker, "--continuous", "--trigger-seconds", "0.5")
    wait_for(lambda: len(bronze_rows(lakehouse, "events")) == 10, 120)
    begun = "events", "late"
    for name in begun:
        checkpoint = lakehouse / "checkpoints" / name
        wait_for(lambda c=checkpoint: any(c.glob("*/commits/0")), 120)
    send(topic, [*numbers(10, 12), b"no json"])
    for name in begun:
        wait_for(lambda name=name: len(bronze_rows(lakehouse, name)) >= 2, 120)
    wait_for(lambda: len(quarantine_rows(lakehouse)) == 2, 120)
    process.send_signal(signal.SIGTERM)
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    report = json.loads(said)
    assert [(f["feed"], f["landed"], f["rejected"]) for f in report["feeds"]] == [
        ("events", 12, 1),
        ("late", 2, 1),
    ]
    logged = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    batches = [line for line in logged if line.get("feed") == "events"]
    assert sum(line["landed"] for line in batches) == 12, errors


def test_a_gap_or_a_topic_made_anew_fails_its_feed_and_no_other(
    broker: str, new_topic: NewTopic, send: Send, lakehouse: Path, ingest: Callable[..., Any]
) -> None:
    gone, other = new_topic(numbers(0, 10)), new_topic(numbers(0, 3))
    feeds = {
        name: {"kafka": {"topics": [topic]}, "format": "json"}
        for name, topic in (("gone", gone), ("other", other))
    }
    process = ingest(feeds, broker, "--once")
    said, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert [feed["landed"] for feed in json.loads(said)["feeds"]] == [10, 3]
    send(gone, numbers(10, 20))
    send(other, numbers(3, 5))
    client = AdminClient({"bootstrap.servers": broker})
    for future in client.delete_records([TopicPartition(gone, 0, 15)]).values():
        future.result()
    process = ingest(feeds, broker, "--once")
    said, errors = process.communicate(timeout=240)
    assert process.returncode == 1
    assert [feed["landed"] for feed in json.loads(said)["feeds"]] == [0, 2]
    gap = f"feed 'gone' failed: {gone}/0: offsets 10 to 14 were deleted by the broker before"
    assert gap in errors
    assert len(bronze_rows(lakehouse, "gone")) == 10

    client.delete_topics([other], operation_timeout=10)[other].result()
    wait_for(lambda: other not in client.list_topics(timeout=5).topics)
    new_topic(numbers(0, 9), name=other)
    process = ingest(feeds, broker, "--once", "--feed", "other")
    said, errors = process.communicate(timeout=240)
    assert process.returncode == 1
    assert f"topic '{other}' was deleted and created again" in errors
    assert len(bronze_rows(lakehouse, "other")) == 5
