"""The feeds file: YAML to frozen dataclasses, every mistake in it named with its place.

A value may hold `${VAR}` or `${VAR:-default}` (a default may hold variables again). Variables
are resolved for the selected feeds only, so that a feed of files runs without a broker's address.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ingestion.errors import ConfigError

KAFKA_FORMATS = ("json", "debezium", "text")
FILE_FORMATS = ("csv", "tsv", "ndjson", "json_document")

# The job's own guarantees rest on these; a feed may not set them.
RESERVED_KAFKA_SETTINGS = (
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "enable.partition.eof",
    "isolation.level",
    "allow.auto.create.topics",
)

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(:-|\})")


@dataclass(frozen=True)
class KafkaOptions:
    """Where a Kafka feed reads; `settings` go to librdkafka as they are."""

    topics: tuple[str, ...]
    settings: Mapping[str, str]
    batch_rows: int = 50_000
    batch_bytes: int = 64 * 1024 * 1024
    connect_timeout_seconds: int = 10
    stall_timeout_seconds: int = 60


@dataclass(frozen=True)
class FileOptions:
    """Where a feed of files reads, and how its files are written."""

    path: Path
    glob: str = "*"
    delimiter: str = ","
    batch_files: int = 1_000
    batch_bytes: int = 128 * 1024 * 1024
    max_record_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True)
class Feed:
    """One declared feed: a name, a source, a value format, the fields that must not be null."""

    name: str
    format: str
    source: KafkaOptions | FileOptions
    key: tuple[str, ...] = ()
    file: str = field(default="", compare=False)

    def error(self, setting: str, fix: str) -> ConfigError:
        """Build the error for a wrong setting of this feed."""
        return ConfigError(self.file, self.name, setting, fix)


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader keeps the last of two feeds of one name without a word; this one refuses."""


def _unique_mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(k) for k, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.MarkedYAMLError(
                problem=f"'{key}' stands twice", problem_mark=node.start_mark
            )
    return loader.construct_mapping(node, deep=True)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def feed_names(path: Path) -> list[str]:
    """Return the names of all declared feeds, in the order of the file."""
    return list(_read(path)["feeds"])


def load_feeds(
    path: Path, env: Mapping[str, str], names: Sequence[str] | None = None
) -> list[Feed]:
    """Load the named feeds (None: all). Raise ConfigError on the first wrong setting."""
    document = _read(path)
    for name in names or ():
        if name not in document["feeds"]:
            known = ", ".join(document["feeds"])
            raise ConfigError(str(path), name, "unknown feed", f"declared are: {known}")
    selected = [n for n in document["feeds"] if names is None or n in names]
    settings = document.get("kafka_settings") or {}
    return [_feed(str(path), n, document["feeds"][n], settings, env) for n in selected]


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_bytes(), _UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        fix = f"cannot be read ({error.strerror}); give another by --feeds or FEEDS_FILE"
        raise ConfigError(str(path), None, "feeds file", fix) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise ConfigError(str(path), None, f"not valid YAML{line}", str(problem)) from error
    section = _Section(str(path), None, "", document)
    feeds = section.mapping("feeds", required=True)
    section.mapping("kafka_settings")
    section.finish()
    for name in feeds:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(
                str(path), str(name), "name", "use small letters, digits and _; begin with a letter"
            )
    return dict(section.given)


def _feed(
    path: str, name: str, raw: Any, kafka_settings: Mapping[str, Any], env: Mapping[str, str]
) -> Feed:
    top = _Section(path, name, "", _substitute(path, name, "", raw, env))
    value_format = top.text("format", required=True)
    key = top.texts("key")
    kafka, files = top.mapping("kafka"), top.mapping("files")
    top.finish()
    if bool(kafka) == bool(files):
        raise top.error("kafka, files", "give exactly one of the two, with its settings")
    allowed = KAFKA_FORMATS if kafka else FILE_FORMATS
    if value_format not in allowed:
        raise top.error("format", f"'{value_format}' is unknown; use one of {', '.join(allowed)}")
    source: KafkaOptions | FileOptions
    if kafka:
        shared = _substitute(path, name, "kafka_settings", kafka_settings, env)
        source = _kafka_options(_Section(path, name, "kafka.", kafka), shared)
    else:
        source = _file_options(_Section(path, name, "files.", files), value_format)
    return Feed(name, value_format, source, key, file=path)


def _kafka_options(section: "_Section", shared: Mapping[str, Any]) -> KafkaOptions:
    topics = section.texts("topics", required=True)
    own = section.mapping("settings")
    settings = {str(k): _plain(v) for k, v in {**shared, **own}.items()}
    for reserved in RESERVED_KAFKA_SETTINGS:
        if reserved in settings:
            raise section.error(f"settings.{reserved}", "is decided by the job; remove it")
    if not settings.get("bootstrap.servers"):
        raise section.error("settings.bootstrap.servers", "is missing; give host:port of a broker")
    options = KafkaOptions(
        topics=topics,
        settings=settings,
        batch_rows=section.count("batch_rows", KafkaOptions.batch_rows),
        batch_bytes=section.count("batch_bytes", KafkaOptions.batch_bytes),
        connect_timeout_seconds=section.count(
            "connect_timeout_seconds", KafkaOptions.connect_timeout_seconds
        ),
        stall_timeout_seconds=section.count(
            "stall_timeout_seconds", KafkaOptions.stall_timeout_seconds
        ),
    )
    section.finish()
    return options


def _file_options(section: "_Section", value_format: str) -> FileOptions:
    delimiter = section.text("delimiter") or ("\t" if value_format == "tsv" else ",")
    if value_format != "csv" and "delimiter" in section.given:
        raise section.error("delimiter", f"has no meaning for format {value_format}; remove it")
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise section.error("delimiter", "must be one character, not a quote or a line end")
    options = FileOptions(
        # Not resolve(): a source keeps its name when a link in its path is turned elsewhere.
        path=Path(os.path.abspath(section.text("path", required=True))),  # noqa: PTH100
        glob=section.text("glob") or FileOptions.glob,
        delimiter=delimiter,
        batch_files=section.count("batch_files", FileOptions.batch_files),
        batch_bytes=section.count("batch_bytes", FileOptions.batch_bytes),
        max_record_bytes=section.count("max_record_bytes", FileOptions.max_record_bytes),
    )
    section.finish()
    return options


class _Section:
    """One mapping of the file, read key by key; what was not asked for is an unknown key."""

    def __init__(self, path: str, feed: str | None, prefix: str, given: Any) -> None:
        self.path, self.feed, self.prefix = path, feed, prefix
        self.asked: list[str] = []
        if not isinstance(given, Mapping):
            raise self.error("settings", "must be a mapping of setting: value")
        self.given: Mapping[str, Any] = given

    def error(self, setting: str, fix: str) -> ConfigError:
        return ConfigError(self.path, self.feed, f"{self.prefix}{setting}", fix)

    def _take(self, key: str, required: bool) -> Any:
        self.asked.append(key)
        value = self.given.get(key)
        if value is None and required:
            raise self.error(key, "is missing")
        return value

    def text(self, key: str, required: bool = False) -> str:
        value = self._take(key, required)
        if value is not None and (not isinstance(value, str) or not value):
            raise self.error(key, "must be a text that is not empty (put it in quotes)")
        return value or ""

    def texts(self, key: str, required: bool = False) -> tuple[str, ...]:
        value = self._take(key, required)
        if value is None:
            return ()
        if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
            raise self.error(key, "must be a list of texts, as in [a, b]")
        return tuple(value)

    def count(self, key: str, default: int) -> int:
        value = self._take(key, False)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.error(key, "must be a whole number above 0")
        return int(value)

    def mapping(self, key: str, required: bool = False) -> Mapping[str, Any]:
        value = self._take(key, required)
        if value is not None and not isinstance(value, Mapping):
            raise self.error(key, "must be a mapping of setting: value")
        return value or {}

    def finish(self) -> None:
        for key in self.given:
            if key not in self.asked:
                fix = f"is not a setting; known here are: {', '.join(self.asked)}"
                raise self.error(str(key), fix)


def _plain(value: Any) -> str:
    """Return a librdkafka setting as its text (YAML's true is Python's True)."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _substitute(path: str, feed: str, where: str, value: Any, env: Mapping[str, str]) -> Any:
    """Replace the variables in every text of a YAML value."""
    if isinstance(value, Mapping):
        dot = f"{where}." if where else ""
        return {k: _substitute(path, feed, f"{dot}{k}", v, env) for k, v in value.items()}
    if isinstance(value, list):
        return [_substitute(path, feed, where, v, env) for v in value]
    if not isinstance(value, str) or "${" not in value:
        return value
    try:
        return substitute(value, env)
    except KeyError as error:
        fix = f"environment variable {error.args[0]} is not set; set it"
        raise ConfigError(path, feed, where, fix) from error
    except ValueError as error:
        raise ConfigError(path, feed, where, str(error)) from error


def substitute(text: str, env: Mapping[str, str]) -> str:
    """Replace `${VAR}` and `${VAR:-default}` in a text; an empty variable counts as not set.

    Raise KeyError with the variable's name where it is not set and has no default, ValueError
    where a `${` is not closed. What a variable holds is taken literally, never expanded again.
    """
    result, rest = _expand(text, env, nested=False)
    return result + rest


def _expand(text: str, env: Mapping[str, str], nested: bool) -> tuple[str, str]:
    """Expand up to the end, or for a nested default up to its `}`; return also what follows."""
    done = ""
    while text:
        if nested and text[0] == "}":
            return done, text[1:]
        match = _VARIABLE.match(text)
        if match is None:
            if text.startswith("${"):
                raise ValueError(f"'{text[:20]}' is not ${{VAR}} or ${{VAR:-default}}")
            done, text = done + text[0], text[1:]
            continue
        name, opener = match.groups()
        text = text[match.end() :]
        if opener == ":-":
            # The default is walked to find its end, but its variables matter only if it is used.
            default, text = _expand(text, env if not env.get(name) else _Anything(), nested=True)
            done += env.get(name) or default
        elif env.get(name):
            done += env[name]
        else:
            raise KeyError(name)
    if nested:
        raise ValueError("a ${ is not closed by }")
    return done, ""


class _Anything(dict[str, str]):
    """An environment in which every variable is set: for a default that is not used."""

    def get(self, key: str, default: Any = None) -> Any:
        return "-"

    def __getitem__(self, key: str) -> str:
        return "-"
