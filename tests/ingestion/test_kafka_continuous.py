"""`ingest run --continuous`: what comes is landed at the trigger, until it is told to stop."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from ingestion_helpers import (
    NOW,
    assert_exactly_once,
    bronze_rows,
    file_feed,
    kafka_feed,
    land,
    quarantine_rows,
    running,
    wait_for,
    with_options,
)

from ingestion import runner
from ingestion.metrics import Metrics, serve
from ingestion.runner import run_continuous

NewTopic = Callable[..., str]
Send = Callable[..., None]


def landed(lakehouse: Path, feed: str = "events") -> int:
    return len(bronze_rows(lakehouse, feed))


def objects(start: int, end: int) -> list[bytes]:
    return [b'{"id":%d}' % n for n in range(start, end)]


def test_what_comes_is_landed_while_it_runs_and_what_is_left_by_the_next_run(
    broker: str, new_topic: NewTopic, send: Send, lakehouse: Path
) -> None:
    topic = new_topic(objects(0, 3), [])
    feed = kafka_feed(broker, topic)
    with running(lakehouse, feed) as results:
        wait_for(lambda: landed(lakehouse) == 3)
        send(topic, [*objects(3, 5), b"broken"], 1)
        wait_for(lambda: landed(lakehouse) == 5)
    assert results[0].error is None
    assert (results[0].landed, results[0].rejected) == (5, 1)
    send(topic, objects(6, 8))
    with running(lakehouse, feed):
        wait_for(lambda: landed(lakehouse) == 7)
    assert_exactly_once(lakehouse, "events", 8)


def test_a_full_batch_does_not_wait_for_the_trigger(
    broker: str, new_topic: NewTopic, lakehouse: Path
) -> None:
    feed = replace(kafka_feed(broker, new_topic(objects(0, 9)), batch_rows=3), trigger_seconds=3600)
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(
            run_continuous, [feed], ["events"], lakehouse, lambda: NOW, stop=stop, metrics=Metrics()
        )
        try:
            wait_for(lambda: landed(lakehouse) == 9)
        finally:
            stop.set()
    assert done.result()[0].batches == 3


def test_files_are_looked_for_at_the_same_trigger(
    broker: str, new_topic: NewTopic, send: Send, lakehouse: Path, landing: Path
) -> None:
    topic = new_topic(objects(0, 1))
    with running(lakehouse, kafka_feed(broker, topic), file_feed(landing)):
        for number in range(2):
            part = landing / "new.part"
            part.write_bytes(b'{"id":1}\n')
            part.rename(landing / f"{number}.ndjson")
            send(topic, objects(0, 1))
            wait_for(lambda n=number: landed(lakehouse, "visits") == n + 1)
            wait_for(lambda n=number: landed(lakehouse) == n + 2)


def test_a_feed_that_fails_is_tried_again_and_the_others_go_on(
    broker: str,
    new_topic: NewTopic,
    send: Send,
    lakehouse: Path,
    landing: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(runner, "RETRY_SECONDS", (0.05, 0.2))
    topic = new_topic(objects(0, 1))
    with running(lakehouse, kafka_feed(broker, topic), file_feed(landing)) as results:
        wait_for(lambda: landed(lakehouse) == 1)
        moved = landing.rename(landing.with_name("away"))
        wait_for(lambda: caplog.text.count("feed visits failed: ") >= 2)
        send(topic, objects(1, 2))
        wait_for(lambda: landed(lakehouse) == 2)
        (moved / "a.ndjson").write_bytes(b'{"id":1}\n')
        moved.rename(landing)
        wait_for(lambda: landed(lakehouse, "visits") == 1)
    assert [r.error for r in results] == [None, None]
    assert "is not a folder" in caplog.text
    assert "trying again in 0.05 seconds" in caplog.text


def test_a_second_process_on_a_feed_lands_nothing_twice(
    broker: str, new_topic: NewTopic, send: Send, lakehouse: Path
) -> None:
    topic = new_topic([])
    feed = kafka_feed(broker, topic)
    with running(lakehouse, feed) as first, running(lakehouse, feed) as second:
        for n in range(10):
            send(topic, [*objects(n, n + 1), b"broken"])
            wait_for(lambda n=n: landed(lakehouse) == n + 1)
    assert first[0].landed + second[0].landed == 10
    assert (first[0].error, second[0].error) == (None, None)
    assert_exactly_once(lakehouse, "events", 20)


def test_new_partitions_and_topics_that_match_are_found_while_it_runs(
    broker: str, new_topic: NewTopic, send: Send, lakehouse: Path
) -> None:
    first = new_topic(objects(0, 1))
    feed = kafka_feed(broker, pattern=re.escape(first) + ".*", discovery_seconds=0.1)
    client = AdminClient({"bootstrap.servers": broker})
    with running(lakehouse, feed):
        wait_for(lambda: landed(lakehouse) == 1)
        new_topic(objects(0, 2), name=f"{first}.more")
        new_topic(objects(0, 2), name=f"not.{first}")
        wait_for(lambda: landed(lakehouse) == 3)
        from confluent_kafka.admin import NewPartitions  # noqa: PLC0415 - for this one test

        for future in client.create_partitions([NewPartitions(first, 2)]).values():
            future.result()
        send(first, objects(0, 3), 1)
        wait_for(lambda: landed(lakehouse) == 6)
    assert {r["source"] for r in bronze_rows(lakehouse, "events")} == {first, f"{first}.more"}
    assert_exactly_once(lakehouse, "events", 6)


def test_a_feed_whose_topic_vanishes_says_so_and_goes_on_when_it_is_back(
    broker: str,
    new_topic: NewTopic,
    lakehouse: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(runner, "RETRY_SECONDS", (0.05, 0.2))
    topic = new_topic(objects(0, 3))
    feed = kafka_feed(broker, topic, discovery_seconds=0.1, on_gap="continue")
    client = AdminClient({"bootstrap.servers": broker})
    with running(lakehouse, feed):
        wait_for(lambda: landed(lakehouse) == 3)
        for future in client.delete_topics([topic]).values():
            future.result()
        wait_for(lambda: f"there is no topic '{topic}'" in caplog.text)
        new_topic(objects(0, 2), name=topic)
        wait_for(lambda: landed(lakehouse) == 5)
    (gap,) = quarantine_rows(lakehouse)
    assert "was the topic deleted and created again?" in gap["reason"]
    assert_exactly_once(lakehouse, "events", 6)


def test_metrics_tell_rows_lag_and_state(broker: str, new_topic: NewTopic, lakehouse: Path) -> None:
    topic = new_topic([*objects(0, 4), b"broken"], objects(0, 1))
    metrics = Metrics()

    def seen() -> dict[str, float]:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#"]
        return {name: float(value) for name, value in lines}

    with serve(metrics, 0) as port, running(lakehouse, kafka_feed(broker, topic), metrics=metrics):
        wait_for(lambda: seen().get('ingest_rows_total{feed="events"}') == 5)
        lag = f'ingest_lag{{feed="events",partition="%d",topic="{topic}"}}'
        wait_for(lambda: (seen().get(lag % 0), seen().get(lag % 1)) == (0, 0))
        found = seen()
        assert found['ingest_up{feed="events"}'] == 1
        assert found['ingest_quarantined_total{feed="events"}'] == 1
        assert found['ingest_bytes_total{feed="events"}'] > 5 * len('{"id":0}')
        assert found['ingest_batch_seconds_total{feed="events"}'] > 0
        assert found['ingest_last_commit_timestamp_seconds{feed="events"}'] == NOW.timestamp()
    assert 'ingest_up{feed="events"} 0' in metrics.text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command_with_exit_code_0_and_logs_are_json_lines(
    broker: str, new_topic: NewTopic, tmp_path: Path, lakehouse: Path, number: int
) -> None:
    topic = new_topic(objects(0, 3))
    feeds = tmp_path / "feeds.yml"
    feeds.write_text(
        f"""
kafka_settings: {{bootstrap.servers: '{broker}', receive.message.max.bytes: 2147483647}}
feeds:
  events: {{format: json, kafka: {{topics: ['{topic}']}}}}
"""
    )
    command = [
        sys.executable,
        "-c",
        "from ingestion.cli import main; main()",
        "run",
        "--continuous",
    ]
    options = ["--json", "--trigger-seconds", "0.1", "--metrics-port", "0"]
    where = ["--feeds", str(feeds), "--lakehouse", str(lakehouse)]
    with subprocess.Popen(
        [*command, *options, *where],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(runner.__file__).parents[1])},
    ) as process:
        try:
            wait_for(lambda: landed(lakehouse) == 3 or process.poll() is not None, 40)
            process.send_signal(number)
            out, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    assert json.loads(out)["landed"] == 3
    lines = [json.loads(line) for line in errors.splitlines()]
    assert re.search(r"metrics at http://127.0.0.1:\d+/metrics", lines[0]["message"])
    assert [(x["feed"], x["batch_id"], x["landed"]) for x in lines if "batch_id" in x] == [
        ("events", 1, 3)
    ]


def test_what_a_single_run_landed_a_continuous_one_does_not_land_again(
    broker: str, new_topic: NewTopic, lakehouse: Path
) -> None:
    feed = kafka_feed(broker, new_topic(objects(0, 3)))
    assert land(feed, lakehouse).landed == 3
    with running(lakehouse, with_options(feed, batch_rows=1)) as results:
        pass
    assert results[0].batches == 0
