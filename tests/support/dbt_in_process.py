"""What dbt does anew in every run, though a process of many runs need not: to parse, above all.

dbt keeps a parsed project among its artifacts, and parses again what has changed, file by file. It
parses everything where the connection has changed, and two lakehouses of the tests have two. But
they differ in names only: of the lakehouse's folder, of the project's copy, of the catalog. So the
names are replaced in what was parsed for the first one, which took ten seconds.

And for the text of a warning an adapter asks, once per flag, which module has made it, in a way
that takes longer with every module that is loaded and every function that is being called: most of
the time of a run within a test.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgpack
from dbt.artifacts.resources import FileHash
from dbt.parser.manifest import ManifestLoader
from dbt_common.behavior_flags import BehaviorFlagRendered

_build_state_check = ManifestLoader.build_manifest_state_check


def _without_connection(loader: ManifestLoader) -> Any:
    state = _build_state_check(loader)
    state.profile_hash = FileHash.from_contents("")
    return state


ManifestLoader.build_manifest_state_check = _without_connection
BehaviorFlagRendered._default_source = staticmethod(lambda: "an adapter")

# Per project, engine and variables: what was parsed, and the names in it.
_kept: dict[tuple[Any, ...], tuple[bytes, dict[str, str]]] = {}


class ParsedProject:
    """What dbt has parsed for one lakehouse, in its folder of artifacts."""

    def __init__(self, artifacts: Path, names: Mapping[str, str]) -> None:
        """`names`: what differs between lakehouses of one project, by what it is the name of."""
        self._path = artifacts / "partial_parse.msgpack"
        self._names = dict(names)
        self._key: tuple[Any, ...] | None = None

    def provide(self, *key: Any) -> None:
        """Have the project parsed for a run; `key` is what must be equal for that."""
        if key != self._key and key in _kept:
            content, names = _kept[key]
            # The longest first: a name may be the beginning of another.
            order = sorted(names, key=lambda name: -len(names[name]))
            changed = [(names[n], self._names[n]) for n in order if names[n] != self._names[n]]
            if changed:
                content = msgpack.packb(_renamed(msgpack.unpackb(content), changed))
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_bytes(content)
        self._key = key

    def keep(self) -> None:
        """Keep what the run has parsed, if it is the first of its kind."""
        if self._key not in _kept and self._path.exists():
            assert self._key is not None
            _kept[self._key] = self._path.read_bytes(), self._names


def _renamed(value: Any, names: list[tuple[str, str]]) -> Any:
    if isinstance(value, str):
        for old, new in names:
            value = value.replace(old, new)
        return value
    if isinstance(value, dict):
        return {_renamed(k, names): _renamed(v, names) for k, v in value.items()}
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    return value
