"""The feeds file: YAML to frozen dataclasses, every mistake in it named with its place.

A value may hold `${VAR}` or `${VAR:-default}` (a default may hold variables again). Variables
are resolved for the selected feeds only, so that a feed of files runs without a broker's address.
"""

import codecs
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from ingestion.errors import ConfigError
from ingestion.locations import Root, root

KAFKA_FORMATS = ("json", "debezium", "text")
KAFKA_ENCODINGS = ("text", "avro", "protobuf")
FILE_FORMATS = ("csv", "tsv", "ndjson", "json_document", "parquet", "avro")

# The job's own guarantees rest on these; a feed may not set them.
RESERVED_KAFKA_SETTINGS = (
    "group.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "enable.partition.eof",
    "isolation.level",
    "allow.auto.create.topics",
)

# Likewise, of Spark's readers.
RESERVED_SPARK_OPTIONS = (
    *("subscribe", "subscribePattern", "assign", "failOnDataLoss", "includeHeaders"),
    *("startingOffsets", "startingOffsetsByTimestamp", "startingTimestamp"),
    *("kafka.bootstrap.servers", "kafka.isolation.level", "kafka.group.id"),
    *("path", "recursiveFileLookup", "pathGlobFilter", "cloudFiles.format"),
    *("cloudFiles.allowOverwrites", "cloudFiles.includeExistingFiles"),
)

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(:-|\})")


# Where a topic is begun: "earliest", "latest", a time, or offsets by partition.
Start = str | datetime | Mapping[int, int]


@dataclass(frozen=True)
class KafkaOptions:
    """Where a Kafka feed reads; `settings` go to librdkafka as they are.

    `schema_registry` goes to confluent_kafka's client; it is empty where both encodings are text.
    It has either `topics` or a `pattern` for their whole names. `start` is by topic, "*" is for
    those that it does not name. `spark`: options of Spark's reader, for that engine only.
    """

    topics: tuple[str, ...]
    settings: Mapping[str, str]
    pattern: str | None = None
    start: Mapping[str, Start] = field(default_factory=dict)
    group: str = ""
    on_gap: str = "stop"
    value_encoding: str = "text"
    key_encoding: str = "text"
    schema_registry: Mapping[str, Any] = field(default_factory=dict)
    discovery_seconds: float = 10
    batch_rows: int = 50_000
    batch_bytes: int = 64 * 1024 * 1024
    connect_timeout_seconds: int = 10
    stall_timeout_seconds: int = 60
    spark: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FileOptions:
    """Where a feed of files reads, and how its files are written.

    An empty `quote` or `escape` is none. `columns` are those that a file is known to have. `spark`:
    options of Spark's reader, as with Kafka.
    """

    path: Root
    glob: str = "*"
    delimiter: str = ","
    quote: str = '"'
    escape: str = ""
    encoding: str = "utf-8"
    header: bool = True
    columns: tuple[str, ...] = ()
    on_change: str = "report"
    settle_seconds: float = 0
    marker: str = ""
    batch_files: int = 1_000
    batch_bytes: int = 128 * 1024 * 1024
    max_record_bytes: int = 64 * 1024 * 1024
    spark: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Feed:
    """One declared feed: a name, a source, a value format, the fields that must not be null."""

    name: str
    format: str
    source: KafkaOptions | FileOptions
    key: tuple[str, ...] = ()
    file: str = field(default="", compare=False)
    trigger_seconds: float = 1.0
    retain_days: int | None = None

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


def retentions(path: Path) -> dict[str, int | None]:
    """Return `retain_days` of every declared feed; nothing else of a feed has to be right."""
    found = {}
    for name, given in _read(path)["feeds"].items():
        section = _Section(str(path), name, "", given)
        found[name] = section.count("retain_days", 0) or None
    return found


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
    trigger_seconds = top.seconds("trigger_seconds", Feed.trigger_seconds)
    retain_days = top.count("retain_days", 0) or None
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
    return Feed(name, value_format, source, key, path, trigger_seconds, retain_days)


def _kafka_options(section: "_Section", shared: Mapping[str, Any]) -> KafkaOptions:
    topics, pattern = section.texts("topics"), section.text("pattern")
    if bool(topics) == bool(pattern):
        raise section.error("topics, pattern", "give exactly one of the two")
    try:
        re.compile(pattern)
    except re.error as error:
        raise section.error("pattern", f"is no regular expression: {error}") from error
    start = _starts(section)
    if topics and (unknown := set(start) - {"*", *topics}):
        raise section.error("start", f"names '{min(unknown)}', which is not among the topics")
    encodings = [section.choice(f"{part}_encoding", KAFKA_ENCODINGS) for part in ("value", "key")]
    registry = section.mapping("schema_registry")
    _check_registry(section, registry, encodings)
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
        pattern=pattern or None,
        start=start,
        group=section.text("group"),
        on_gap=section.choice("on_gap", ("stop", "continue")),
        value_encoding=encodings[0],
        key_encoding=encodings[1],
        schema_registry=registry,
        discovery_seconds=section.seconds("discovery_seconds", KafkaOptions.discovery_seconds),
        batch_rows=section.count("batch_rows", KafkaOptions.batch_rows),
        batch_bytes=section.count("batch_bytes", KafkaOptions.batch_bytes),
        connect_timeout_seconds=section.count(
            "connect_timeout_seconds", KafkaOptions.connect_timeout_seconds
        ),
        stall_timeout_seconds=section.count(
            "stall_timeout_seconds", KafkaOptions.stall_timeout_seconds
        ),
        spark=_spark_options(section),
    )
    section.finish()
    return options


def _spark_options(section: "_Section") -> Mapping[str, str]:
    """Read options of Spark's reader."""
    options = {str(k): _plain(v) for k, v in section.mapping("spark").items()}
    for reserved in RESERVED_SPARK_OPTIONS:
        if reserved in options:
            raise section.error(f"spark.{reserved}", "is decided by the job; remove it")
    return options


def _check_registry(
    section: "_Section", registry: Mapping[str, Any], encodings: Sequence[str]
) -> None:
    if not registry and set(encodings) != {"text"}:
        raise section.error("schema_registry", "is missing; an encoding other than text needs it")
    if registry and set(encodings) == {"text"}:
        fix = "has no meaning while value_encoding and key_encoding are text; remove it, or set one"
        raise section.error("schema_registry", fix)
    urls = str(registry.get("url", "")).split(",")
    if registry and not all(url.strip().startswith(("http://", "https://")) for url in urls):
        # The client would say so with the URL, which may hold a password.
        raise section.error("schema_registry.url", "must be http://host:port or https://host:port")


def _starts(section: "_Section") -> dict[str, Start]:
    """Read `start`: one for all topics, or one by topic."""
    given = section.take("start")
    by_topic = given if isinstance(given, Mapping) else {} if given is None else {"*": given}
    return {str(topic): _start(section, start) for topic, start in by_topic.items()}


def _start(section: "_Section", given: Any) -> Start:
    fix = "give earliest, latest, a time with its zone as in 2026-03-01T00:00:00Z, or offsets"
    if isinstance(given, Mapping):
        numbers = [n for item in given.items() for n in item]
        if not numbers or not all(type(n) is int and n >= 0 for n in numbers):
            raise section.error("start", f"{fix} as in {{topic: {{0: 100, 1: 0}}}}")
        return dict(given)
    if given in ("earliest", "latest"):
        return str(given)
    try:
        # YAML has made a time of it already, unless it stands in quotes.
        time = given if isinstance(given, datetime) else datetime.fromisoformat(given)
    except (TypeError, ValueError):
        time = None
    if time is None or time.tzinfo is None:
        raise section.error("start", f"{fix} by topic and partition")
    return time


def _file_options(section: "_Section", value_format: str) -> FileOptions:
    is_csv = value_format in ("csv", "tsv")
    for name in ("delimiter", "quote", "escape", "header", "columns"):
        if name in section.given and not (is_csv and (name, value_format) != ("delimiter", "tsv")):
            raise section.error(name, f"has no meaning for format {value_format}; remove it")
    marks = {
        "delimiter": section.text("delimiter") or ("\t" if value_format == "tsv" else ","),
        "quote": section.text("quote") or FileOptions.quote,
        "escape": section.text("escape") or "none",
    }
    marks = {name: "" if m == "none" else m for name, m in marks.items()}
    for name, mark in marks.items():
        if (len(mark) != 1 and (mark or name == "delimiter")) or mark in ("\r", "\n"):
            raise section.error(name, "must be one character, not a line end")
        if mark and list(marks.values()).count(mark) > 1:
            raise section.error(name, "must be another character than the other marks")
    header = section.flag("header", FileOptions.header)
    columns = section.texts("columns")
    if len(set(columns)) < len(columns) or not (header or columns):
        raise section.error("columns", "must name each column once where there is no header")
    marker = section.text("marker")
    if "/" in marker or marker == "*":
        raise section.error("marker", "must be a name, as in _SUCCESS or *.done")
    options = FileOptions(
        path=_absolute(root(section.text("path", required=True))),
        glob=section.text("glob") or FileOptions.glob,
        **marks,
        encoding=_encoding(section),
        header=header,
        columns=columns,
        on_change=section.choice("on_change", ("report", "land_again")),
        settle_seconds=section.seconds("settle_seconds", FileOptions.settle_seconds),
        marker=marker,
        batch_files=section.count("batch_files", FileOptions.batch_files),
        batch_bytes=section.count("batch_bytes", FileOptions.batch_bytes),
        max_record_bytes=section.count("max_record_bytes", FileOptions.max_record_bytes),
        spark=_spark_options(section),
    )
    section.finish()
    return options


def _absolute(path: Root) -> Root:
    """Not resolve(): a source keeps its name when a link in its path is turned elsewhere."""
    return Path(os.path.abspath(path)) if isinstance(path, Path) else path  # noqa: PTH100


def _encoding(section: "_Section") -> str:
    name = section.text("encoding") or FileOptions.encoding
    try:
        "a".encode(name).decode(name)
        codecs.getincrementaldecoder(name)
    except LookupError:
        raise section.error("encoding", f"'{name}' is no text encoding of Python") from None
    return name


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

    def take(self, key: str, required: bool = False) -> Any:
        self.asked.append(key)
        value = self.given.get(key)
        if value is None and required:
            raise self.error(key, "is missing")
        return value

    def text(self, key: str, required: bool = False) -> str:
        value = self.take(key, required)
        if value is not None and (not isinstance(value, str) or not value):
            raise self.error(key, "must be a text that is not empty (put it in quotes)")
        return value or ""

    def texts(self, key: str, required: bool = False) -> tuple[str, ...]:
        value = self.take(key, required)
        if value is None:
            return ()
        if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
            raise self.error(key, "must be a list of texts, as in [a, b]")
        return tuple(value)

    def count(self, key: str, default: int) -> int:
        value = self.take(key, False)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.error(key, "must be a whole number above 0")
        return int(value)

    def seconds(self, key: str, default: float) -> float:
        value = self.take(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise self.error(key, "must be a number of seconds above 0")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.take(key)
        if value is not None and not isinstance(value, bool):
            raise self.error(key, "must be true or false")
        return default if value is None else value

    def choice(self, key: str, known: Sequence[str]) -> str:
        """Read one of some texts; the first is the default."""
        value = self.text(key) or known[0]
        if value not in known:
            raise self.error(key, f"'{value}' is unknown; use one of {', '.join(known)}")
        return value

    def mapping(self, key: str, required: bool = False) -> Mapping[str, Any]:
        value = self.take(key, required)
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
