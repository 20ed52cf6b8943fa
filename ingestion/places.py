"""Where a partition is read on: under which address it lands, where it begins, what is missing.

A topic whose offsets begin anew lands under another name, `topic#2` and so on, because an address
stands once. No topic's name holds a #, so what is known of a partition is kept as further
"offsets", in the commit of its rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from ingestion.bronze import Bronze, TopicPartition
from ingestion.config import Start
from ingestion.records import Reject


class Gap(NamedTuple):
    """Records that were not landed and cannot be read any more.

    `anew`: from `resume` on the broker gives offsets that were landed before to other records.
    """

    reason: str
    resume: int
    anew: bool


@dataclass
class Place:
    """Where a partition is read on, and the address under which its records land.

    `landed` is what bronze says of that address, None if nothing; `looked_at` is up to where the
    quarantine may hold rejects of a batch that did not get in. `facts` is what the next commit has
    to tell besides the position; `must_commit`: it has to be told even if nothing is landed.
    """

    address: TopicPartition
    position: int
    landed: int | None = None
    looked_at: int = 0
    facts: dict[TopicPartition, int] = field(default_factory=dict)
    must_commit: bool = False
    gap: Reject | None = None


def generation_key(at: TopicPartition) -> TopicPartition:
    """Return what keeps how often a partition's offsets have begun anew, counted from 1."""
    return TopicPartition(f"{at.topic}#", at.partition)


def identity_key(address: TopicPartition) -> TopicPartition:
    """Return what keeps the id of the topic that lands under an address."""
    return TopicPartition(f"{address.topic}#id", address.partition)


def first_key(address: TopicPartition) -> TopicPartition:
    """Return what keeps the offset at which offsets began anew; those below are not of it."""
    return TopicPartition(f"{address.topic}#first", address.partition)


def address_of(at: TopicPartition, bronze: Bronze) -> TopicPartition:
    """Return the address under which a partition lands."""
    return _numbered(at, bronze.next_offset(generation_key(at)) or 1)


def _numbered(at: TopicPartition, generation: int) -> TopicPartition:
    return at if generation == 1 else TopicPartition(f"{at.topic}#{generation}", at.partition)


def find_gap(
    position: int, low: int, high: int, known_id: int | None, topic_id: int | None
) -> Gap | None:
    """Compare the landed position with what the partition holds; None: it can be read on."""
    same_id = topic_id is not None and known_id == topic_id
    if topic_id is not None and known_id is not None and not same_id:
        return Gap(
            f"the topic was deleted and created again (it has another id); what the former one"
            f" held from offset {position} on was not landed",
            low,
            anew=True,
        )
    if position > high:
        guess = "was its end cut off?" if same_id else "was the topic deleted and created again?"
        return Gap(
            f"landed up to offset {position}, but the partition ends at {high}: {guess}",
            high if same_id else low,
            anew=True,
        )
    if position < low:
        return Gap(
            f"offsets {position} to {low - 1} were deleted by the broker before they were landed",
            low,
            anew=False,
        )
    return None


def place_after(gap: Gap, position: int, at: TopicPartition, bronze: Bronze) -> Place:
    """Return where to go on after a gap, which is recorded at the first missing offset."""
    address = address_of(at, bronze)
    record = Reject(address.topic, at.partition, position, None, None, [], None, gap.reason)
    if not gap.anew:
        return Place(address, gap.resume, must_commit=True, gap=record)
    generation = (bronze.next_offset(generation_key(at)) or 1) + 1
    # The former address ends after the record of the gap.
    new = _numbered(at, generation)
    facts = {
        generation_key(at): generation,
        first_key(new): gap.resume,
        address: position + 1,
    }
    return Place(new, gap.resume, facts=facts, must_commit=True, gap=record)


def start_offset(
    start: Start, partition: int, low: int, high: int, offset_at: Callable[[datetime], int]
) -> int:
    """Return the offset that a `start` setting means; a partition it does not name: the first."""
    if isinstance(start, datetime):
        found = offset_at(start)
        return high if found < 0 else found
    if isinstance(start, Mapping):
        return start.get(partition, low)
    return high if start == "latest" else low
