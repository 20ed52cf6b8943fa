"""What AUTO CDC tables hold, in plain Python, written from the rules of docs/auto_cdc.md alone.

Changes are applied one by one in their order; nothing of this looks like the SQL that it checks.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Event:
    """A change of one key: `values` is None for a delete; `sets` names what it sets, or is None."""

    sequence: tuple[int, ...]
    values: Values | None
    sets: Collection[str] | None = None


@dataclass(frozen=True)
class Version:
    """Values that held from a sequence (inclusive) to another (exclusive; None while they hold)."""

    values: Values
    start: tuple[int, ...]
    end: tuple[int, ...] | None


def in_order(arrivals: Iterable[Event], keeps: str = "") -> dict[tuple[int, ...], Values | None]:
    """Per sequence what the key was set to, in order of the sequence; None where it was deleted.

    `keeps` says what a change leaves as it was: nothing (""), what is NULL ("null"), or what it
    does not name ("unnamed").
    """
    result: dict[tuple[int, ...], Values | None] = {}
    standing: Values | None = None
    # Sorting is stable: of the same sequence, the later arrival comes later.
    for event in sorted(arrivals, key=lambda e: e.sequence):
        if event.values is None:
            standing = None
        else:
            set_now = {
                name: value
                for name, value in event.values.items()
                if keeps == ""
                or (keeps == "null" and value is not None)
                or (keeps == "unnamed" and (event.sets is None or name in event.sets))
            }
            standing = {**dict.fromkeys(event.values), **(standing or {}), **set_now}
            if keeps == "":
                standing = event.values
        result[event.sequence] = standing
    return result


def current(arrivals: Iterable[Event], keeps: str = "") -> Values | None:
    """The row of a key, None where there is none."""
    changes = in_order(arrivals, keeps)
    return changes[max(changes)] if changes else None


def history(
    arrivals: Iterable[Event], keeps: str = "", untracked: Collection[str] = ()
) -> list[Version]:
    """The versions of a key: a change of an untracked value changes the version that holds."""
    versions: list[Version] = []
    for sequence, values in in_order(arrivals, keeps).items():
        holds = versions[-1] if versions and versions[-1].end is None else None
        if (
            holds is not None
            and values is not None
            and all(values[n] == v for n, v in holds.values.items() if n not in untracked)
        ):
            versions[-1] = Version(values, holds.start, None)
            continue
        if holds is not None:
            versions[-1] = Version(holds.values, holds.start, sequence)
        if values is not None:
            versions.append(Version(values, sequence, None))
    return versions
