"""A copy of the project whose expectations a test may change."""

import shutil
from pathlib import Path

from tests.support.lakehouse import PROJECT

# What dbt finds the packages by, from wherever the copy is.
VARIABLES = {"DBT_PACKAGES_INSTALL_PATH": str(PROJECT / "dbt_packages")}


def copied_project(folder: Path) -> Path:
    """Copy what dbt reads of the project."""
    for name in ("models", "macros", "seeds", "analyses"):
        shutil.copytree(PROJECT / name, folder / name)
    shutil.copytree(PROJECT / "tests" / "dbt", folder / "tests" / "dbt")
    for name in ("dbt_project.yml", "packages.yml", "package-lock.yml"):
        shutil.copy(PROJECT / name, folder / name)
    return folder


def replace(path: Path, old: str, new: str) -> None:
    """Replace a text that stands once in a file."""
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path.name}"
    path.write_text(text.replace(old, new))
