"""The wheel that the bundle builds holds all that the job needs."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.bundle.loading import PROJECT, whole
from tests.support.components import UnavailableError, fetch

# What a wheel task of Databricks does: the command that the package's metadata names, in a process
# that goes on.
TASK = """
import sys
from importlib import metadata
commands = metadata.distribution("realtime_insights").entry_points
(command,) = [each for each in commands if each.name == "ingest"]
sys.argv = ["ingest", *sys.argv[1:]]
command.load()()
import ingestion
print("went on", ingestion.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by the bundle's own command from a copy of the sources."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, folder)
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / "ingestion", folder / "ingestion", ignore=without)
    (artifact,) = whole()["artifacts"].values()
    command = artifact["build"].replace("python3", sys.executable, 1).split()
    try:
        fetch("what builds the wheel", command, folder)
    except UnavailableError as error:
        if os.environ.get("REQUIRE_ALL") == "1":
            raise
        pytest.skip(f"tests of the wheel: {error}")
    (built,) = (folder / "dist").glob("*.whl")
    return built


def test_the_wheel_holds_the_package_the_feeds_file_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    modules = {path.relative_to(PROJECT) for path in (PROJECT / "ingestion").rglob("*.py")}
    assert {*map(str, modules), "ingestion/feeds.yml"} == {
        name for name in names if ".dist-info/" not in name
    }
    assert wheel.name.startswith("realtime_insights-") and wheel.name.endswith("-py3-none-any.whl")


def test_the_wheel_runs_as_a_task_of_databricks(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    (tmp_path / "landing" / "behavior" / "dining").mkdir(parents=True)
    visits = tmp_path / "landing" / "behavior" / "dining" / "visits.ndjson"
    visits.write_text('{"visit_id": "v1"}\n')
    given = ["--set", f"LANDING_PATH={tmp_path / 'landing'}", "run", "--once"]
    given += ["--feed", "vendor_dining", "--lakehouse", str(tmp_path / "lakehouse")]
    done = subprocess.run(
        [sys.executable, "-c", TASK, *given],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *_, landed, last = done.stdout.splitlines()
    assert landed.split()[:4] == ["vendor_dining", "1", "1", "0"]
    assert last == f"went on {tmp_path / 'installed' / 'ingestion' / '__init__.py'}"
