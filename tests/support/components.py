"""What the real components of the tests share: how they are fetched, started, and missed."""

import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

FETCH_SECONDS = 300


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


def needed_program(name: str, package: str, *places: str) -> str:
    """Return the path of a program, looked for also in `places`."""
    path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *places]))
    if path is None:
        raise UnavailableError(f"{name} is not installed (Debian's package {package})")
    return path


def fetch(what: str, command: Sequence[str | Path], folder: Path) -> None:
    """Run a command that downloads something."""
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{what} cannot be fetched in {FETCH_SECONDS} s") from error
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).split())[-400:]
        raise UnavailableError(f"{what} cannot be fetched: {said}")


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
