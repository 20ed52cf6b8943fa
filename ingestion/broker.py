"""What is asked of a Kafka cluster: topics, their ids, and offsets. Reading is kafka.py's part."""

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient

from ingestion.bronze import TopicPartition
from ingestion.config import Feed, KafkaOptions
from ingestion.errors import FeedError
from ingestion.group import Membership

log = logging.getLogger(__name__)
client_log = logging.getLogger(f"{__name__}.client")

T = TypeVar("T")

# A partition that is between two leaders is asked again.
_PASSING = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
# The client that reads belongs to no group, whatever is set for the one that does.
_OF_MEMBERS = ("group.instance.id", "group.protocol", "partition.assignment.strategy")


class Broker:
    """The clients of one feed, connected."""

    def __init__(self, feed: Feed, options: KafkaOptions) -> None:
        """Connect. Raise ConfigError where the settings do not allow that."""
        self._feed, self._options = feed, options
        self._timeout = options.connect_timeout_seconds
        self._admin: AdminClient | None = None
        self.last_error, self._suspect = "no answer", "bootstrap.servers"
        settings = {
            "queued.max.messages.kbytes": 16_384,
            # By default fetching rests for a second whenever that is full.
            "fetch.queue.backoff.ms": 10,
            **options.settings,
            "group.id": options.group or f"ingest-{feed.name}",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "allow.auto.create.topics": False,
            "error_cb": self._note_error,
        }
        own = {name: value for name, value in settings.items() if name not in _OF_MEMBERS}
        self.membership: Membership | None = None
        try:
            self.consumer = Consumer(own, logger=client_log)
            if options.group:
                self.membership = Membership(settings, client_log, self._note_error)
        except KafkaException as error:
            raise feed.error("kafka.settings", error.args[0].str()) from error

    def _note_error(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self.last_error = error.str()
            # A refused certificate comes as any broken connection; only the text says so.
            is_login = error.code() == KafkaError._AUTHENTICATION
            is_tls = "SSL" in error.str()
            self._suspect = "sasl.*" if is_login else "ssl.*" if is_tls else "bootstrap.servers"

    def close(self) -> None:
        """Disconnect."""
        self._admin = None
        if self.membership is not None:
            self.membership.close()
        self.consumer.close()

    def partitions(self) -> list[TopicPartition]:
        """Return the partitions of the feed's topics. Raise ConfigError where one is missing."""
        found, pattern = self._metadata(), self._options.pattern
        if pattern is not None:
            # Names that begin with __ are the broker's own.
            names = sorted(t for t in found if re.fullmatch(pattern, t) and t[:2] != "__")
            if not names:
                log.warning("feed %s: no topic matches %s yet", self._feed.name, pattern)
        else:
            names = list(self._options.topics)
        for topic in names:
            if topic not in found or found[topic].error is not None:
                servers = self._options.settings["bootstrap.servers"]
                raise self._feed.error("kafka.topics", f"there is no topic '{topic}' at {servers}")
        return [TopicPartition(t, p) for t in names for p in sorted(found[t].partitions)]

    def _metadata(self) -> Mapping[str, Any]:
        """Ask for all topics: to ask for one by name may create it."""
        try:
            return dict(self.consumer.list_topics(timeout=self._timeout).topics)
        except KafkaException as error:
            self.consumer.poll(0)  # lets the client say why
            servers = self._options.settings["bootstrap.servers"]
            raise self._feed.error(
                f"kafka.settings.{self._suspect}",
                f"cannot reach a broker at {servers} ({self.last_error}); check both",
            ) from error

    def topic_ids(self, partitions: Sequence[TopicPartition]) -> dict[str, int]:
        """Return 63 bits of each topic's id, which a topic that is made anew does not share.

        Brokers before 2.8, and some that are not Apache Kafka, have none.
        """
        topics = sorted({at.topic for at in partitions})
        if not topics:
            return {}
        if self._admin is None:
            left_out = (*_OF_MEMBERS, "group.id")
            settings: dict[str, str | int | float | bool] = {
                k: v for k, v in self._options.settings.items() if k not in left_out
            }
            self._admin = AdminClient(settings, logger=client_log)
        admin = self._admin
        answers = admin.describe_topics(TopicCollection(topics), request_timeout=self._timeout)
        ids = {}
        for topic, answer in answers.items():
            uuid = self._ask(lambda answer=answer: answer.result()).topic_id  # type: ignore[misc]  # a default binds the loop's value
            bits = uuid.get_most_significant_bits() ^ uuid.get_least_significant_bits()
            if bits:
                ids[topic] = bits & (2**63 - 1)
        return ids

    def watermarks(self, at: TopicPartition) -> tuple[int, int]:
        """Return the first offset of a partition and the one after its last."""
        partition = KafkaPartition(*at)
        low, high = self._ask(
            lambda: self.consumer.get_watermark_offsets(partition, timeout=self._timeout)
        )
        return low, high

    def offset_at(self, at: TopicPartition, moment: datetime) -> int:
        """Return the first offset that is not older; -1 (the end) where all are."""
        asked = KafkaPartition(*at, int(moment.timestamp() * 1000))
        (found,) = self._ask(
            lambda: self.consumer.offsets_for_times([asked], timeout=self._timeout)
        )
        return int(found.offset)

    def _ask(self, question: Callable[[], T]) -> T:
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return question()
            except KafkaException as error:
                passes = error.args[0].code() in _PASSING and time.monotonic() < deadline
                if not passes:
                    said = error.args[0].str()
                    raise FeedError(f"the broker did not answer: {said}") from error
            time.sleep(0.1)
