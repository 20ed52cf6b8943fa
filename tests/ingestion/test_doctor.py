"""The doctor finds what keeps a run from working, and says how to mend it."""

import json
from datetime import timedelta
from pathlib import Path

from click.testing import CliRunner
from ingestion_helpers import NOW, file_feed, land

from ingestion import doctor
from ingestion.doctor import Finding, examine


def feeds_file(folder: Path, text: str) -> Path:
    path = folder / "feeds.yml"
    path.write_text(text)
    return path


def good_feeds(folder: Path, landing: Path) -> Path:
    return feeds_file(
        folder, f"feeds:\n  visits:\n    files: {{path: {landing}}}\n    format: ndjson\n"
    )


def to_mend(findings: list[Finding]) -> list[tuple[str, str | None]]:
    return [(finding.check, finding.feed) for finding in findings if not finding.ok]


def test_all_is_well_and_nothing_is_left_behind(tmp_path: Path, landing: Path) -> None:
    lakehouse = tmp_path / "lakehouse"
    findings = list(examine(good_feeds(tmp_path, landing), lakehouse, {}, NOW, lambda _: 10**12))
    assert to_mend(findings) == []
    assert {finding.check for finding in findings} >= {"feeds file", "source", "disk", "clock"}
    assert not lakehouse.exists()


def test_each_feed_that_cannot_run_is_named_with_its_fix(tmp_path: Path, landing: Path) -> None:
    path = feeds_file(
        tmp_path,
        "feeds:\n"
        f"  good:\n    files: {{path: {landing}}}\n    format: ndjson\n"
        "  gone:\n    files: {path: /nowhere/at/all}\n    format: ndjson\n"
        "  unset:\n    kafka: {topics: [t], settings: {bootstrap.servers: '${NO_SUCH}'}}\n"
        "    format: json\n"
        "  silent:\n    kafka: {topics: [t], connect_timeout_seconds: 1,"
        " settings: {bootstrap.servers: '127.0.0.1:1'}}\n    format: json\n",
    )
    findings = list(examine(path, tmp_path / "lakehouse", {}, NOW, lambda _: 10**12))
    assert to_mend(findings) == [("source", "gone"), ("settings", "unset"), ("source", "silent")]
    by_feed = {finding.feed: finding for finding in findings}
    assert "NO_SUCH is not set; set it" in by_feed["unset"].fix
    assert "127.0.0.1:1" in by_feed["silent"].fix


def test_a_feeds_file_that_cannot_be_read_ends_the_examination(tmp_path: Path) -> None:
    findings = list(examine(tmp_path / "none.yml", tmp_path, {}, NOW))
    assert to_mend(findings) == [("feeds file", None)]
    assert "--feeds" in findings[0].fix


def test_little_free_disk_is_found(tmp_path: Path, landing: Path) -> None:
    findings = list(examine(good_feeds(tmp_path, landing), tmp_path, {}, NOW, lambda _: 10**9))
    assert to_mend(findings) == [("disk", None)]


def test_a_clock_that_was_set_back_is_found(tmp_path: Path, landing: Path) -> None:
    (landing / "a.ndjson").write_text('{"id":1}\n')
    land(file_feed(landing), tmp_path)
    findings = list(examine(good_feeds(tmp_path, landing), tmp_path, {}, NOW - timedelta(days=365)))
    assert ("clock", None) in to_mend(findings)


def test_the_exit_code_and_the_json_say_the_same(tmp_path: Path, landing: Path) -> None:
    options = ["--lakehouse", str(tmp_path), "--json", "--feeds"]
    well = CliRunner().invoke(doctor.command, [*options, str(good_feeds(tmp_path, landing))])
    assert well.exit_code == 0, well.output
    assert all(finding["ok"] for finding in json.loads(well.output)["findings"])
    ill = CliRunner().invoke(doctor.command, [*options, str(tmp_path / "none.yml")])
    assert ill.exit_code == 1
    assert not json.loads(ill.output)["findings"][0]["ok"]
