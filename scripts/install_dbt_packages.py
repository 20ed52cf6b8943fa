"""Install the dbt packages of package-lock.yml, with or without a package hub.

Where the hub answers, `dbt deps` installs the real packages. Elsewhere (a bank's network, CI) the
project's own equivalents of the tests in use, `tests/offline_packages/`, are copied in their place.
One line on stdout says which; `<install folder>/.installed` keeps it for other tools (JSON:
`source` is `hub` or `offline`, `packages` says it in words). A second run changes nothing; after
`make clean`, or without the folder, the hub is tried again.

The install folder is `dbt_packages`, or `DBT_PACKAGES_INSTALL_PATH` (relative to the project), the
hub is dbt's own default or `DBT_PACKAGE_HUB_URL`.
"""

import argparse
import hashlib
import http.client
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import yaml

MARKER = ".installed"  # a file: dbt takes every directory beside it for a package
PROBE_SECONDS = 4.0
DEPS_SECONDS = 60.0


class InstallError(Exception):
    """A setting is wrong: nothing was changed, and the message says what to do."""


def locked_packages(project: Path) -> dict[str, str]:
    """Return folder name -> version of every package in the project's package-lock.yml."""
    lock = yaml.safe_load((project / "package-lock.yml").read_text(encoding="utf-8"))
    return {package["name"]: package["version"] for package in lock["packages"]}


def default_hub_url() -> str:
    """Return the base URL that dbt itself would ask, with a slash at its end."""
    # Imported here: it takes seconds, and most runs need no hub.
    from dbt.clients.registry import DEFAULT_REGISTRY_BASE_URL  # noqa: PLC0415 # see above

    return str(DEFAULT_REGISTRY_BASE_URL)


def hub_answers(hub_url: str, seconds: float = PROBE_SECONDS) -> bool:
    """Tell whether the hub serves the index that `dbt deps` starts from, within `seconds`.

    Proxies are taken from the environment, as `dbt deps` takes them.
    """
    answers: list[bool] = []

    def probe() -> None:
        request = urllib.request.Request(f"{hub_url}api/v1/index.json", method="HEAD")  # noqa: S310 # the hub's URL is a setting
        try:
            with urllib.request.urlopen(request, timeout=seconds):  # noqa: S310 # likewise
                answers.append(True)
        except urllib.error.URLError as error:
            # It answers, with a certificate that only dbt's own list of authorities may know.
            answers.append(isinstance(error.reason, ssl.SSLCertVerificationError))
        except (OSError, ValueError, http.client.HTTPException):
            answers.append(False)

    # The timeout of urlopen holds per address and not for looking up the name: limit the whole.
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(seconds)
    return answers == [True]


def run_dbt_deps(project: Path, seconds: float = DEPS_SECONDS) -> str | None:
    """Run `dbt deps`, which empties the install folder first; return why it failed, or None."""
    command = [sys.executable, "-m", "dbt.cli.main", "deps", "--project-dir", str(project)]
    environment = {"DBT_SEND_ANONYMOUS_USAGE_STATS": "false", **os.environ}
    try:
        done = subprocess.run(  # noqa: S603 # our own interpreter, fixed arguments
            command, cwd=project, env=environment, timeout=seconds, capture_output=True, check=False
        )
    except subprocess.TimeoutExpired:
        return f"dbt deps took over {seconds:.0f} s"
    return "dbt deps failed, see dbt's log" if done.returncode else None


def install(
    project: Path,
    folder: Path,
    *,
    offline: bool,
    hub_reachable: Callable[[], bool],
    dbt_deps: Callable[[], str | None],
) -> str:
    """Bring `folder` to what package-lock.yml names, and return the line that says what it holds.

    `offline` asks for our own equivalents. Raises InstallError where `folder` holds anything but
    dbt packages, because installing replaces it.
    """
    names = set(locked_packages(project))
    source = _installed_source(project, folder, names)
    if source == "offline" or (source == "hub" and not offline):
        _write_marker(project, folder, source)
        return f"dbt packages: nothing changed, {_in_words(project, source)}"

    _refuse_foreign_content(folder, names)
    if offline:
        failure: str | None = "offline by request"
    elif not hub_reachable():
        failure = "hub not reachable"
    else:
        failure = dbt_deps()
        if failure is None and not _holds(folder, names):
            failure = f"dbt deps did not install into {folder.name}"
    if failure is None:
        _write_marker(project, folder, "hub")
        return f"dbt packages: installed {_in_words(project, 'hub')}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(_offline_packages(project), folder)
    _write_marker(project, folder, "offline")
    return f"dbt packages: {failure}, using {_in_words(project, 'offline')}"


def _offline_packages(project: Path) -> Path:
    return project / "tests" / "offline_packages"


def _holds(folder: Path, names: set[str]) -> bool:
    return all((folder / name / "dbt_project.yml").is_file() for name in names)


def _installed_source(project: Path, folder: Path, names: set[str]) -> str | None:
    """Return what the folder holds already, None where that is incomplete or out of date."""
    if not _holds(folder, names):
        return None
    with suppress(OSError, ValueError, KeyError, TypeError):
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        source = str(marker["source"])
        return source if marker["fingerprint"] == _fingerprint(project, source) else None
    # Without a marker somebody ran `dbt deps` by hand, or our copying was cut off.
    ours = (_offline_packages(project) / name / "dbt_project.yml" for name in sorted(names))
    cut_off = any(
        path.is_file() and path.read_bytes() == (folder / path.parent.name / path.name).read_bytes()
        for path in ours
    )
    return None if cut_off else "hub"


def _fingerprint(project: Path, source: str) -> str:
    """Digest every file that the installation depends on."""
    files = [project / "packages.yml", project / "package-lock.yml"]
    if source == "offline":
        files += sorted(_files_below(_offline_packages(project)))
    digest = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(project).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _in_words(project: Path, source: str) -> str:
    if source == "hub":
        versions = locked_packages(project).items()
        return "the real " + ", ".join(f"{name} {version}" for name, version in sorted(versions))
    tests = _offline_packages(project).glob("dbt_expectations/macros/expect_*.sql")
    return f"the project's own equivalents of {len(list(tests))} dbt_expectations tests"


def _write_marker(project: Path, folder: Path, source: str) -> None:
    marker = {
        "source": source,
        "packages": _in_words(project, source),
        "fingerprint": _fingerprint(project, source),
    }
    text = json.dumps(marker, indent=2) + "\n"
    path = folder / MARKER
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _refuse_foreign_content(folder: Path, names: set[str]) -> None:
    """Keep a mistaken install folder, a home directory say, from being deleted."""
    for entry in folder.iterdir() if folder.is_dir() else ():
        is_package = entry.name in names or (entry / "dbt_project.yml").is_file()
        is_hidden_file = entry.name.startswith(".") and entry.is_file()
        if not (is_package or is_hidden_file):
            raise InstallError(f"{folder} holds {entry.name}, which is no dbt package: move it")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(description="Install the dbt packages of package-lock.yml.")
    parser.add_argument(
        "--offline", action="store_true", help="use tests/offline_packages, ask no package hub"
    )
    parser.add_argument(
        "--project-dir",
        type=Path,
        default=Path(__file__).resolve().parents[1],
        help="the dbt project (default: the one this script belongs to)",
    )
    options = parser.parse_args(arguments)
    project: Path = options.project_dir.resolve()
    try:
        line = install(
            project,
            project / os.environ.get("DBT_PACKAGES_INSTALL_PATH", "dbt_packages"),
            offline=options.offline,
            hub_reachable=lambda: hub_answers(
                os.environ.get("DBT_PACKAGE_HUB_URL") or default_hub_url()
            ),
            dbt_deps=lambda: run_dbt_deps(project),
        )
    except (InstallError, OSError) as error:
        print(f"dbt packages: {error}", file=sys.stderr)
        return 1
    print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
