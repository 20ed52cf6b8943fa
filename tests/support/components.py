"""What the real components of the tests share: how they are fetched, started, and missed."""

import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

FETCH_SECONDS = 300

# Programs that are not Python's, with the Debian package of each.
PROGRAMS = {
    "java": "default-jre-headless",
    "mvn": "maven",
    "initdb": "postgresql",
    "postgres": "postgresql",
    "psql": "postgresql",
}


class UnavailableError(Exception):
    """A component cannot be had on this machine; the text says what is missing."""


def cached_folder(name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that outlives test runs; `make` fills it once.

    It appears under its name only when it is complete, and of several processes one makes it.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "realtime_insights"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / name
    with (cache / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = Path(tempfile.mkdtemp(dir=cache, prefix=".unfinished-"))
            try:
                make(unfinished)
                unfinished.rename(folder)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _find(program: str) -> str | None:
    # Debian keeps the server's programs out of PATH, by version: the newest first.
    servers = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    places = [os.environ.get("PATH", ""), *map(str, servers)]
    return shutil.which(program, path=os.pathsep.join(places))


def needed_program(name: str) -> str:
    """Return the path of one of PROGRAMS."""
    path = _find(name)
    if path is None:
        raise UnavailableError(f"{name} is not installed (Debian's package {PROGRAMS[name]})")
    return path


def missing_programs() -> list[str]:
    """Return those of PROGRAMS that are not installed, each with its package."""
    return [f"{name} ({package})" for name, package in PROGRAMS.items() if _find(name) is None]


def fetch(what: str, command: Sequence[str | Path], folder: Path) -> None:
    """Run a command that downloads something."""
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{what} cannot be fetched in {FETCH_SECONDS} s") from error
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).split())
        # Maven says first what is wrong, pip last.
        brief = said if len(said) < 1_000 else f"{said[:600]} ... {said[-400:]}"
        raise UnavailableError(f"{what} cannot be fetched: {brief}")


def free_ports(count: int) -> list[int]:
    """Return loopback ports that nobody listens on now, chosen by the system."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def running(component: AbstractContextManager[T], name: str) -> Iterator[T]:
    """Enter a component for as long as a fixture lives, or skip."""
    try:
        value = component.__enter__()
    except UnavailableError as error:
        if os.environ.get("REQUIRE_ALL") == "1":
            raise
        pytest.skip(f"needs {name}: {error}")
    try:
        yield value
    finally:
        component.__exit__(None, None, None)
