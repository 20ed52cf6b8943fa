"""The feeds file: what it may say, and one clear line for each mistake."""

from pathlib import Path

import pytest

from ingestion.config import FileOptions, KafkaOptions, load_feeds, substitute
from ingestion.errors import ConfigError
from ingestion.options import DEFAULT_FEEDS_FILE

KAFKA = "feeds:\n  a:\n    format: json\n    kafka:\n      topics: [t]\n"
SERVERS = "      settings: {bootstrap.servers: 'h:1'}\n"


def load(tmp_path: Path, text: str, **env: str) -> list:  # type: ignore[type-arg]  # of Feed
    path = tmp_path / "feeds.yml"
    path.write_text(text)
    return load_feeds(path, env)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain $ {A}", "plain $ {A}"),
        ("${A}", "1"),
        ("x${A}y${B:-2}z", "x1y2z"),
        ("${EMPTY:-d}", "d"),
        ("${NONE:-}", ""),
        ("${NONE:-${A}/in}/out", "1/in/out"),
        ("${A:-${NONE}}", "1"),
        ("${NONE:-${NEITHER:-x}}", "x"),
        ("${TRICKY}", "${A}}"),
    ],
)
def test_variables_are_replaced(text: str, expected: str) -> None:
    assert substitute(text, {"A": "1", "EMPTY": "", "TRICKY": "${A}}"}) == expected


@pytest.mark.parametrize("text", ["${NONE}", "${NONE:-${NEITHER}}"])
def test_a_variable_that_is_not_set_is_named(text: str) -> None:
    with pytest.raises(KeyError, match="N"):
        substitute(text, {})


@pytest.mark.parametrize("text", ["${A", "${A:-b", "${}", "${A-b}"])
def test_a_variable_that_is_written_wrong_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\$"):
        substitute(text, {"A": "1"})


def test_the_feeds_of_the_demo_load() -> None:
    env = {"KAFKA_BOOTSTRAP_SERVERS": "h:1", "LAKEHOUSE_PATH": "/lake"}
    feeds = {f.name: f for f in load_feeds(DEFAULT_FEEDS_FILE, env)}
    assert len(feeds) == 12
    customers = feeds["customers"].source
    assert isinstance(customers, KafkaOptions)
    assert customers.topics == ("bank.public.customers",)
    assert customers.settings["bootstrap.servers"] == "h:1"
    tickets = feeds["vendor_tickets"].source
    assert isinstance(tickets, FileOptions)
    assert (tickets.path, tickets.delimiter) == (Path("/lake/landing/behavior/tickets"), ";")
    travel = feeds["vendor_travel"].source
    assert isinstance(travel, FileOptions)
    assert travel.delimiter == "\t"


def test_a_missing_variable_matters_only_to_the_feeds_that_use_it() -> None:
    (feed,) = load_feeds(DEFAULT_FEEDS_FILE, {}, ["vendor_dining"])
    assert feed.name == "vendor_dining"
    with pytest.raises(ConfigError, match=r"'customers': .*KAFKA_BOOTSTRAP_SERVERS is not set"):
        load_feeds(DEFAULT_FEEDS_FILE, {}, ["customers"])


def test_a_feed_may_add_to_the_shared_client_settings(tmp_path: Path) -> None:
    text = KAFKA + "      settings: {fetch.min.bytes: 5, check.crcs: true}\n"
    (feed,) = load(
        tmp_path, "kafka_settings: {bootstrap.servers: 'h:1', fetch.min.bytes: 1}\n" + text
    )
    assert feed.source.settings == {
        "bootstrap.servers": "h:1",
        "fetch.min.bytes": "5",
        "check.crcs": "true",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("feeds: [", "not valid YAML in line 1"),
        ("- a", "settings: must be a mapping"),
        ("{}", "feeds: is missing"),
        ("feeds: {}\nfeed: 1", "feed: is not a setting; known here are: feeds, kafka_settings"),
        ("feeds:\n  a: {}\n  a: {}\n", "'a' stands twice"),
        ("feeds: {A-b: {}}", "feed 'A-b': name: use small letters"),
        ("feeds: {a: 1}", "feed 'a': settings: must be a mapping"),
        ("feeds: {a: {}}", "feed 'a': format: is missing"),
        ("feeds: {a: {format: json}}", "kafka, files: give exactly one"),
        (KAFKA.replace("json", "xml") + SERVERS, "format: 'xml' is unknown; use one of json, deb"),
        (KAFKA.replace("json", "csv") + SERVERS, "format: 'csv' is unknown"),
        (KAFKA, "kafka.settings.bootstrap.servers: is missing"),
        (KAFKA.replace("[t]", "t") + SERVERS, "kafka.topics: must be a list of texts"),
        (KAFKA + SERVERS + "      topic: t\n", "kafka.topic: is not a setting; known here are:"),
        (KAFKA + SERVERS + "    keys: [x]\n", "feed 'a': keys: is not a setting"),
        (KAFKA + SERVERS + "      batch_rows: 0\n", "kafka.batch_rows: must be a whole number"),
        (KAFKA + SERVERS + "      batch_rows: yes\n", "kafka.batch_rows: must be a whole number"),
        (
            KAFKA + "      settings: {isolation.level: x}\n",
            "kafka.settings.isolation.level: is decided by the job",
        ),
        (KAFKA + "      settings: {bootstrap.servers: '${X}'}\n", "variable X is not set; set it"),
        ("feeds: {a: {format: csv, files: {glob: x}}}", "files.path: is missing"),
        ("feeds: {a: {format: csv, files: {path: x, delimiter: ab}}}", "must be one character"),
        ("feeds: {a: {format: tsv, files: {path: x, delimiter: a}}}", "has no meaning for format"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, text)
    line = str(raised.value)
    assert line.startswith(str(tmp_path / "feeds.yml"))
    assert said in line
    assert "\n" not in line


def test_a_feeds_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no.yml: feeds file: cannot be read"):
        load_feeds(tmp_path / "no.yml", {})
