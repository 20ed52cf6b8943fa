"""What is in quarantine can be seen, and lands after a fix: once, under its own address."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from ingestion_helpers import (
    NOW,
    assert_exactly_once,
    bronze_rows,
    crash_before_line,
    file_feed,
    kafka_feed,
    land,
    quarantine_rows,
)

from ingestion import bronze, quarantine
from ingestion.config import Feed


def replay(feed: Feed, lakehouse: Path) -> quarantine.Replay:
    return quarantine.replay(feed, lakehouse, lambda: NOW)


@pytest.fixture
def strict_feed(landing: Path, lakehouse: Path) -> Feed:
    """A feed whose key setting rejects records that a looser one would land."""
    (landing / "a.ndjson").write_text('{"id":1}\n{"other":2}\n{"other":3}\nbroken\n')
    feed = file_feed(landing, key=("id",))
    assert land(feed, lakehouse).rejected == 3
    return feed


def test_records_that_pass_now_land_under_their_address_in_a_new_batch(
    strict_feed: Feed, lakehouse: Path
) -> None:
    done = replay(replace(strict_feed, key=()), lakehouse)
    assert (done.batch_id, done.landed, done.still_rejected) == (2, 2, 1)
    assert [(r["position"], r["value"], r["batch_id"]) for r in bronze_rows(lakehouse)] == [
        (1, '{"id":1}', 1),
        (2, '{"other":2}', 2),
        (3, '{"other":3}', 2),
    ]
    assert [r["value"] for r in quarantine_rows(lakehouse)] == ["broken"]
    assert_exactly_once(lakehouse, "visits", 4)


def test_a_replay_without_a_fix_changes_nothing(strict_feed: Feed, lakehouse: Path) -> None:
    before = (bronze_rows(lakehouse), quarantine_rows(lakehouse))
    done = replay(strict_feed, lakehouse)
    assert (done.landed, done.still_rejected) == (0, 3)
    assert (bronze_rows(lakehouse), quarantine_rows(lakehouse)) == before


def test_a_replay_that_was_cut_off_is_finished_by_the_next_one(
    strict_feed: Feed, lakehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(quarantine, "_take_out", fail)
        with pytest.raises(KeyboardInterrupt):
            replay(replace(strict_feed, key=()), lakehouse)
    assert len(bronze_rows(lakehouse)) + len(quarantine_rows(lakehouse)) == 6  # two in both
    done = replay(replace(strict_feed, key=()), lakehouse)
    assert (done.landed, done.still_rejected) == (0, 1)
    assert_exactly_once(lakehouse, "visits", 4)


def test_an_unfinished_batch_of_files_is_landed_before_its_rejects_are_judged(
    strict_feed: Feed, landing: Path, lakehouse: Path
) -> None:
    (landing / "b.ndjson").write_text('{"id":5}\n{"other":6}\n')
    with crash_before_line(1, [bronze.Bronze.commit]) as reached:
        land(strict_feed, lakehouse)
    assert reached and len(quarantine_rows(lakehouse)) == 4
    done = replay(replace(strict_feed, key=()), lakehouse)
    assert (done.batch_id, done.landed, done.still_rejected) == (3, 2, 1)
    assert_exactly_once(lakehouse, "visits", 6)
    assert land(strict_feed, lakehouse).batches == 0


def test_a_replay_does_not_make_a_run_take_its_ledger_for_lost(
    strict_feed: Feed, lakehouse: Path, caplog: pytest.LogCaptureFixture
) -> None:
    replay(replace(strict_feed, key=()), lakehouse)
    land(strict_feed, lakehouse)
    assert "rebuilding" not in caplog.text


def test_a_replay_on_another_machine_does_not_make_a_plan_count_as_landed(
    strict_feed: Feed, landing: Path, lakehouse: Path
) -> None:
    (landing / "b.ndjson").write_text('{"id":5}\n{"other":6}\n')
    with crash_before_line(1, [bronze.Bronze.commit]) as reached:
        land(strict_feed, lakehouse)
    assert reached
    ledger, kept = lakehouse / "ingest" / "ledger.sqlite", lakehouse / "kept"
    ledger.rename(kept)  # another machine has one of its own
    assert replay(replace(strict_feed, key=()), lakehouse).batch_id == 2
    kept.rename(ledger)
    land(strict_feed, lakehouse)
    assert_exactly_once(lakehouse, "visits", 6)


def test_rejects_of_an_unfinished_kafka_batch_wait_for_the_next_run(
    broker: str, new_topic: Callable[..., str], lakehouse: Path
) -> None:
    topic = new_topic([b'{"id":1}', b'{"other":2}', b'{"id":3}', b'{"other":4}'])
    feed = kafka_feed(broker, topic, key=["id"], batch_rows=2)
    loose = replace(feed, key=())
    with crash_before_line(1, [bronze.Bronze.commit]) as reached:
        land(feed, lakehouse)
    assert reached and len(quarantine_rows(lakehouse)) == 1
    assert replay(loose, lakehouse).landed == 0
    land(feed, lakehouse)
    assert replay(loose, lakehouse).landed == 2
    assert_exactly_once(lakehouse, "events", 4)


def test_landing_goes_on_after_a_replay(
    broker: str, new_topic: Callable[..., str], send: Callable[..., None], lakehouse: Path
) -> None:
    topic = new_topic([b'{"id":1}', b'{"other":2}', b"\xff\xfe"])
    feed = kafka_feed(broker, topic, key=["id"])
    assert land(feed, lakehouse).rejected == 2
    assert replay(replace(feed, key=()), lakehouse).landed == 1
    send(topic, [b'{"id":4}'])
    assert land(feed, lakehouse).landed == 1
    assert_exactly_once(lakehouse, "events", 4)
    (still,) = quarantine_rows(lakehouse)
    assert still["headers"]["value_encoding"] == "base64"


@pytest.fixture
def run(lakehouse: Path) -> Callable[..., Result]:
    def invoke(*arguments: str) -> Result:
        options = [*arguments, "--lakehouse", str(lakehouse)]
        return CliRunner().invoke(quarantine.command, options)

    return invoke


def test_the_commands_count_and_show(
    strict_feed: Feed, lakehouse: Path, run: Callable[..., Result]
) -> None:
    counted: list[dict[str, Any]] = json.loads(run("list", "--json").output)["rejected"]
    assert [(r["feed"], r["reason"], r["records"]) for r in counted] == [
        ("visits", "key field 'id' is missing", 2),
        ("visits", "not valid JSON: unexpected character, expected a JSON value", 1),
    ]
    assert "2  visits" in run("list").output
    shown = run("show", "visits").output
    assert "0/4: not valid JSON" in shown and "broken" in shown
    assert len(json.loads(run("show", "visits", "--limit", "1", "--json").output)["records"]) == 1
    assert "nothing of feed 'none'" in run("show", "none").output


def test_the_replay_command_reads_the_feeds_file(
    strict_feed: Feed, lakehouse: Path, tmp_path: Path, run: Callable[..., Result]
) -> None:
    feeds = tmp_path / "feeds.yml"
    path = strict_feed.source.path  # type: ignore[union-attr]  # a feed of files
    feeds.write_text(f"feeds:\n  visits:\n    files: {{path: {path}}}\n    format: ndjson\n")
    done = run("replay", "visits", "--feeds", str(feeds))
    assert done.output == "2 landed, 1 still rejected\n"
    wrong = run("replay", "none", "--feeds", str(feeds))
    assert wrong.exit_code == 2
    assert "declared are: visits" in wrong.output


def test_nothing_in_quarantine_is_said(run: Callable[..., Result]) -> None:
    assert run("list").output == "nothing is in quarantine\n"
