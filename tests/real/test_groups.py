"""Several processes share the partitions of one feed by a consumer group of Apache Kafka."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from tests.ingestion.ingestion_helpers import assert_exactly_once, bronze_rows, wait_for
from tests.support.ingest import INGEST

NewTopic = Callable[..., str]
Send = Callable[..., None]
PARTITIONS = 4


class Shared:
    """One feed that processes share: how they are started, and what the broker says of them."""

    def __init__(self, folder: Path, broker: str, topic: str, strategy: str, on_gap: str) -> None:
        self.lakehouse, self.group = folder / "lakehouse", f"readers-of-{topic}"
        self._admin = AdminClient({"bootstrap.servers": broker})
        self.feeds, self._log = folder / "feeds.yml", folder / "log"
        settings = {
            "bootstrap.servers": broker,
            "session.timeout.ms": 6_000,
            "heartbeat.interval.ms": 500,
            "partition.assignment.strategy": strategy,
        }
        kafka = {"topics": [topic], "group": self.group, "batch_rows": 20, "on_gap": on_gap}
        feed = {"kafka": kafka, "format": "json", "trigger_seconds": 0.1}
        self.feeds.write_text(
            yaml.safe_dump({"kafka_settings": settings, "feeds": {"events": feed}})
        )

    @contextmanager
    def member(self) -> Iterator["subprocess.Popen[bytes]"]:
        """A process that runs continuously; killed at the end if it still runs."""
        command = [INGEST, "run", "--continuous", "--feeds", self.feeds]
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [*command, "--lakehouse", self.lakehouse], stdout=log, stderr=log
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def shares(self) -> list[int]:
        """How many partitions each member of the group has, while nobody is waiting."""
        (answer,) = self._admin.describe_consumer_groups([self.group]).values()
        try:
            members = answer.result().members
        except KafkaException:  # the group is not there yet
            return []
        return sorted(len(m.assignment.topic_partitions) for m in members if m.assignment)

    def landed(self) -> int:
        return len(bronze_rows(self.lakehouse, "events"))

    def said(self) -> str:
        return self._log.read_text()

    def once(self) -> "subprocess.CompletedProcess[str]":
        command = [INGEST, "run", "--once", "--feeds", self.feeds, "--lakehouse", self.lakehouse]
        return subprocess.run(command, capture_output=True, text=True, check=False)


def objects(start: int, end: int) -> list[bytes]:
    return [b'{"n":%d}' % n for n in range(start, end)]


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_partitions_are_shared_and_handed_over_when_members_come_go_and_die(
    broker: str, new_topic: NewTopic, send: Send, tmp_path: Path, strategy: str
) -> None:
    topic = new_topic(*[[] for _ in range(PARTITIONS)])
    shared = Shared(tmp_path, broker, topic, strategy, "stop")
    sent = 0

    def send_to_all(count: int) -> None:
        nonlocal sent
        for partition in range(PARTITIONS):
            send(topic, objects(sent, sent + count), partition)
            sent += count

    with ExitStack() as running:
        first = running.enter_context(shared.member())
        wait_for(lambda: shared.shares() == [4])
        send_to_all(100)
        second = running.enter_context(shared.member())
        send_to_all(100)
        wait_for(lambda: shared.shares() == [2, 2])
        send_to_all(100)
        third = running.enter_context(shared.member())
        wait_for(lambda: len(shared.shares()) == 3 and sum(shared.shares()) == 4)
        send_to_all(100)
        first.kill()  # with batches under way
        send_to_all(100)
        wait_for(lambda: shared.shares() == [2, 2])
        third.send_signal(signal.SIGTERM)
        assert third.wait(timeout=30) == 0
        wait_for(lambda: shared.shares() == [4])
        send_to_all(100)
        wait_for(lambda: shared.landed() == sent)
        second.send_signal(signal.SIGTERM)
        assert second.wait(timeout=30) == 0
    assert shared.once().returncode == 0
    assert_exactly_once(shared.lakehouse, "events", sent)


def test_a_member_that_was_stopped_for_long_repeats_nothing_when_it_goes_on(
    broker: str, new_topic: NewTopic, send: Send, tmp_path: Path
) -> None:
    topic = new_topic(*[[] for _ in range(PARTITIONS)])
    shared = Shared(tmp_path, broker, topic, "range", "stop")
    with shared.member() as sleeper:
        wait_for(lambda: shared.shares() == [4])
        for partition in range(PARTITIONS):
            send(topic, objects(0, 300), partition)
        wait_for(lambda: shared.landed() > 0)
        os.kill(sleeper.pid, signal.SIGSTOP)
        try:
            with shared.member():
                wait_for(lambda: shared.landed() == 300 * PARTITIONS)
                os.kill(sleeper.pid, signal.SIGCONT)
                send(topic, objects(300, 310), 0)
                wait_for(lambda: shared.shares() == [2, 2])
                wait_for(lambda: shared.landed() == 300 * PARTITIONS + 10)
        finally:
            os.kill(sleeper.pid, signal.SIGCONT)
    assert_exactly_once(shared.lakehouse, "events", 300 * PARTITIONS + 10)


@pytest.mark.parametrize("on_gap", ["stop", "continue"])
def test_offsets_of_the_group_that_somebody_resets_are_said_and_decide_nothing(
    broker: str, new_topic: NewTopic, send: Send, tmp_path: Path, on_gap: str
) -> None:
    topic = new_topic(objects(0, 10), *[[] for _ in range(PARTITIONS - 1)])
    shared = Shared(tmp_path, broker, topic, "range", on_gap)
    assert shared.once().returncode == 0
    admin = AdminClient({"bootstrap.servers": broker})
    reset = ConsumerGroupTopicPartitions(shared.group, [TopicPartition(topic, 0, 2)])
    (done,) = admin.alter_consumer_group_offsets([reset]).values()
    done.result()
    send(topic, objects(10, 15))
    run = shared.once()
    said = f"{topic}/0: the offset of group '{shared.group}' was set to 2 by others"
    assert said in run.stderr
    assert run.returncode == (1 if on_gap == "stop" else 0)
    assert_exactly_once(shared.lakehouse, "events", 10 if on_gap == "stop" else 15)
    if on_gap == "continue":  # what is landed is told to the group again
        assert committed(broker, shared.group, topic) == 15
        assert said not in shared.once().stderr


def committed(broker: str, group: str, topic: str) -> int:
    client = Consumer({"bootstrap.servers": broker, "group.id": group})
    try:
        (found,) = client.committed([TopicPartition(topic, 0)], timeout=10)
    finally:
        client.close()
    return int(found.offset)
