"""Where tables and files live: in folders of this machine, or under URLs of an object store."""

import fcntl
import os
import re
import time
from functools import cache
from pathlib import Path
from typing import Any

import obstore
import pyarrow as pa
from obstore.store import from_url

# A folder, or the URL of one (`s3://`, `abfss://`, `gs://`), whose credentials the libraries take
# from the environment.
Root = Path | str

# Beside the tables of a folder: the ledger and the locks.
_STATE_FOLDER = "ingest"


def root(text: str) -> Root:
    """Return what a setting names."""
    return text.rstrip("/") if "://" in text else Path(text)


def under(lakehouse: Root, *names: str) -> str:
    """Return the place of a table."""
    return "/".join([str(lakehouse), *names])


def state_folder(lakehouse: Root) -> Path:
    """Return the local folder for what a run must remember beside the tables.

    For an object store INGEST_STATE names it, by default `ingest-state` where the job runs; if it
    is lost it is made anew from the tables.
    """
    if isinstance(lakehouse, Path):
        return lakehouse / _STATE_FOLDER
    given = Path(os.environ.get("INGEST_STATE") or "ingest-state")
    return given / re.sub(r"[^A-Za-z0-9]+", "-", lakehouse)


def wait_for_lock(file: int, seconds: float) -> bool:
    """Take a lock; False when whoever has it does not give it back in time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
        time.sleep(0.01)


class NewFile:
    """A file that is being written into a folder or an object store."""

    def __init__(self, folder: str, name: str) -> None:
        """Begin to write; `stream` takes the content."""
        self.name = name
        self._path = None if "://" in folder else f"{folder}/{name}"
        upload: Any = None if self._path else _Upload(_store(folder), name)
        self.stream = pa.OSFile(self._path, "w") if self._path else pa.PythonFile(upload, "w")

    def finish(self) -> int:
        """Complete the file; return its size in bytes."""
        size = int(self.stream.tell())
        self.stream.close()
        return size

    def remove(self) -> None:
        """Remove the file. An upload that is not complete is no file."""
        if self._path:
            self.stream.close()
            Path(self._path).unlink()


class _Upload:  # not one of Python's streams: those complete themselves when they are forgotten
    """The library's writer, with what Arrow asks of a stream."""

    def __init__(self, store: Any, name: str) -> None:
        # Few parts at a time: each is held in memory.
        self._writer = obstore.open_writer(store, name, max_concurrency=2)
        self._size = 0
        self.closed = False

    def write(self, content: bytes) -> int:
        self._writer.write(content)
        self._size += len(content)
        return len(content)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        """Parts are sent when they are full."""

    def close(self) -> None:
        self._writer.close()
        self.closed = True


@cache
def _store(url: str) -> Any:
    return from_url(url)
