"""Where tables and files live: in folders of this machine, or under URLs of an object store."""

import fcntl
import os
import re
import time
from pathlib import Path

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
