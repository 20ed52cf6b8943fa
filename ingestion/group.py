"""Membership of a consumer group: which partitions this process reads, where several share a feed.

Only that is taken from the group. What was landed stands in the bronze table, so a member reads
on from there, and a commit of somebody who has lost a partition is refused. The offsets that are
committed to the group are for the tools that show lag, and to notice when somebody resets them.
"""

import logging
from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import (
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
)
from confluent_kafka import TopicPartition as KafkaPartition

from ingestion.bronze import TopicPartition
from ingestion.errors import FeedError

# Stands with every offset that this job commits: an offset without it was set by someone else.
_MARK = "landed by ingest"


class Membership:
    """A client of its own that joins the group and fetches nothing.

    It is called between batches only, so a rebalance never cuts a batch in two.
    """

    def __init__(
        self,
        settings: Mapping[str, object],
        log: logging.Logger,
        on_error: Callable[[KafkaError], None],
    ) -> None:
        """Connect with settings that hold the group.id."""
        own = {"auto.offset.reset": "latest", "enable.partition.eof": False, "error_cb": on_error}
        self._client = Consumer({**settings, **own}, logger=log)
        self._is_incremental = (
            settings.get("partition.assignment.strategy") == "cooperative-sticky"
            or settings.get("group.protocol") == "consumer"
        )
        self._topics: list[str] = []
        self.partitions: set[TopicPartition] = set()

    def join(self, topics: Sequence[str]) -> None:
        """Ask for a share of these topics' partitions."""
        if topics != self._topics:
            self._topics = list(topics)
            self._client.subscribe(
                self._topics,
                on_assign=self._assigned,
                on_revoke=self._revoked,
                on_lost=self._revoked,
            )

    def poll(self) -> None:
        """Take part in the group; `partitions` may be others afterwards."""
        while (message := self._client.poll(0)) is not None:
            error = message.error()
            if error is not None and error.fatal():
                raise FeedError(f"the consumer group: {error.str()}")

    def _assigned(self, client: Consumer, given: list[KafkaPartition]) -> None:
        # The end, and paused: this client is not to fetch anything.
        at_end = [KafkaPartition(p.topic, p.partition, OFFSET_END) for p in given]
        if self._is_incremental:
            client.incremental_assign(at_end)
        else:
            client.assign(at_end)
        client.pause(at_end)
        self.partitions |= {TopicPartition(p.topic, p.partition) for p in given}

    def _revoked(self, client: Consumer, taken: list[KafkaPartition]) -> None:
        if self._is_incremental:
            client.incremental_unassign(taken)
        else:
            client.unassign()
        self.partitions -= {TopicPartition(p.topic, p.partition) for p in taken}

    def note_landed(self, positions: Mapping[TopicPartition, int]) -> None:
        """Commit to the group what is landed. It may fail: bronze knows better."""
        offsets = [
            KafkaPartition(at.topic, at.partition, position, metadata=_MARK)
            for at, position in positions.items()
        ]
        if offsets:
            self._client.commit(offsets=offsets, asynchronous=True)

    def set_by_others(
        self, at: Sequence[TopicPartition], timeout: float
    ) -> dict[TopicPartition, int]:
        """Return the group's offsets that this job did not commit."""
        if not at:
            return {}
        try:
            found = self._client.committed([KafkaPartition(*p) for p in at], timeout=timeout)
        except KafkaException as error:
            raise FeedError(f"the consumer group: {error.args[0].str()}") from error
        return {
            TopicPartition(p.topic, p.partition): p.offset
            for p in found
            if p.offset >= 0 and p.metadata != _MARK
        }

    def close(self) -> None:
        """Leave the group."""
        self._client.close()
