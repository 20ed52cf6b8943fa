"""`ingest` killed at random instants while messages come: 0 lost, 0 repeated."""

import random
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import Producer

from tests.support.kills import Job, assert_all_landed_once, kill_and_drain, value


def test_kills_over_a_running_stream_of_messages_lose_and_repeat_nothing(
    broker: str, new_topic: Callable[..., str], tmp_path: Path
) -> None:
    topic = new_topic([], [], [])
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 0})
    numbers = iter(range(1, 10**9))

    def send(chance: random.Random) -> list[int]:
        now = [next(numbers) for _ in range(chance.randint(1, 12))]
        for n in now:
            producer.produce(topic, value=value(n), partition=chance.randrange(3))
        assert producer.flush(10) == 0
        return now

    first = send(random.Random(3))
    extra = {"kafka_settings": {"bootstrap.servers": broker}}
    job = Job(tmp_path, "kafka", {"topics": [topic]}, extra)
    assert_all_landed_once(job, first + kill_and_drain(job, send))
