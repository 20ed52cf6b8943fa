"""Where a feed's files lie: a folder of this machine, or a prefix in an object store.

A folder may also be a mounted volume, such as a Unity Catalog volume under /Volumes. Credentials
and endpoints of object stores come from the environment (AWS_..., AZURE_..., GOOGLE_...).
"""

import io
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import from_url

from ingestion.errors import FeedError
from ingestion.ledger import FileState
from ingestion.locations import Root

_IGNORED_ENDINGS = (".tmp", ".part", "_")
_LIST_CHUNK = 1_000
_READ_BYTES = 8 * 1024 * 1024


class Storage(Protocol):
    """What landing needs of the place where files lie. Errors of reading are OSErrors."""

    def fault(self) -> str:
        """Return why no file can be found at all, and what to do; else nothing."""

    def find(self, glob: str, on_fault: Callable[[str], object]) -> Iterator[FileState]:
        """Yield the files that match: `*`, `?` within a name, `**/` for any folders.

        Hidden files and folders, and names that end in .tmp, .part or _, belong to whoever is
        still writing them.
        """

    def exists(self, path: str) -> bool:
        """Tell whether there is such a file."""

    def open(self, path: str) -> Any:  # a context manager of a BinaryIO
        """Open a file for reading."""

    def facts(self, path: str, stream: BinaryIO) -> tuple[int, int]:
        """Return the size in bytes and the time of modification in nanoseconds of an open file."""


def storage(root: Root) -> Storage:
    """Return the storage that a feed's path names."""
    return Folder(root) if isinstance(root, Path) else ObjectStore(root)


class Folder:
    """A folder of this machine. Folders in it that are links are not followed."""

    def __init__(self, root: Path) -> None:
        """Nothing is looked at yet."""
        self._root = root

    def fault(self) -> str:
        """Return why the folder cannot be listed."""
        if not self._root.is_dir():
            return f"{self._root} is not a folder; create it"
        if not os.access(self._root, os.R_OK | os.X_OK):
            return f"{self._root} may not be read; permit it"
        return ""

    def find(self, glob: str, on_fault: Callable[[str], object]) -> Iterator[FileState]:
        """Yield the files that match. A folder that cannot be listed is an error, never empty."""
        for entry in list_files(self._root, glob):
            try:
                facts = entry.stat()
            except FileNotFoundError:
                continue  # gone since it was listed
            if not stat.S_ISREG(facts.st_mode):
                continue
            try:
                entry.path.encode()
            except UnicodeEncodeError:
                on_fault(f"{entry.path!r}: the name is not valid UTF-8; rename the file")
                continue
            yield FileState(entry.path, facts.st_size, facts.st_mtime_ns)

    def exists(self, path: str) -> bool:
        """Tell whether there is such a file."""
        return Path(path).exists()

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading."""
        return open(path, "rb")  # noqa: PTH123 - the ledger keeps plain texts

    def facts(self, path: str, stream: BinaryIO) -> tuple[int, int]:
        """Return size and time of modification."""
        facts = os.fstat(stream.fileno())
        return facts.st_size, facts.st_mtime_ns


class ObjectStore:
    """A prefix in S3, Azure or Google storage."""

    def __init__(self, url: str) -> None:
        """Nothing is asked yet."""
        self._url = url
        self._connected: Any = None

    @property
    def _store(self) -> Any:
        if self._connected is None:
            self._connected = from_url(self._url)
        return self._connected

    def fault(self) -> str:
        """Return why the prefix cannot be listed. An empty one can."""
        try:
            next(iter(obstore.list(self._store, chunk_size=1)), None)
        except (BaseError, OSError, ValueError) as error:
            return f"{self._url} cannot be listed: {_said(error)}; check address and credentials"
        return ""

    def find(self, glob: str, on_fault: Callable[[str], object]) -> Iterator[FileState]:
        """Yield the objects that match."""
        is_meant = selector(glob)
        try:
            for chunk in obstore.list(self._store, chunk_size=_LIST_CHUNK):
                for found in chunk:
                    path = found["path"]
                    if is_meant(path):
                        yield FileState(f"{self._url}/{path}", *_facts(found))
        except BaseError as error:
            raise FeedError(f"{self._url} cannot be listed: {_said(error)}") from error

    def exists(self, path: str) -> bool:
        """Tell whether there is such an object."""
        try:
            obstore.head(self._store, self._key(path))
        except (NotFoundError, FileNotFoundError):
            return False
        return True

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """Open an object for reading."""
        with _as_os_error():
            reader = obstore.open_reader(self._store, self._key(path), buffer_size=_READ_BYTES)
            yield io.BufferedReader(_Raw(reader))

    def facts(self, path: str, stream: BinaryIO) -> tuple[int, int]:
        """Return size and time of modification."""
        with _as_os_error():
            return _facts(obstore.head(self._store, self._key(path)))

    def _key(self, path: str) -> str:
        return path.removeprefix(f"{self._url}/")


class _Raw(io.RawIOBase):
    """The library's reader as one of Python's streams, which other libraries ask for more."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = bytes(self._reader.read(len(buffer)))
        buffer[: len(found)] = found
        return len(found)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._reader.seek(offset, whence))

    def tell(self) -> int:
        return int(self._reader.tell())


def _facts(found: Any) -> tuple[int, int]:
    """Return size and time; stores have whole seconds, so what is below a millisecond tells tags.

    Two objects of one size that replace each other within a second are two states all the same.
    """
    milliseconds = int(found["last_modified"].timestamp() * 1000)
    tag = zlib.crc32((found["e_tag"] or "").encode()) % 1_000_000
    return found["size"], milliseconds * 1_000_000 + tag


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except NotFoundError as error:
        raise FileNotFoundError(_said(error)) from error
    except BaseError as error:
        raise OSError(5, _said(error)) from error


def _said(error: Exception) -> str:
    """Return the first line of an error: the rest of it tells of the library's own types."""
    return str(error).split("\n", 1)[0].strip()


def list_files(root: Path, glob: str) -> Iterator[os.DirEntry[str]]:
    """Yield the files under a folder that match, as `Storage.find` says."""
    matches = matcher(glob)
    depth = None if "**" in glob else glob.count("/")
    waiting = [(str(root), "")]
    while waiting:
        folder, prefix = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        is_deep = depth is not None and prefix.count("/") >= depth
                        if not is_deep and not entry.is_symlink():
                            waiting.append((entry.path, f"{prefix}{entry.name}/"))
                    elif not entry.name.endswith(_IGNORED_ENDINGS) and matches(prefix + entry.name):
                        yield entry
        except OSError as error:
            raise FeedError(f"{error.filename} cannot be listed: {error.strerror}") from error


def selector(glob: str) -> Callable[[str], bool]:
    """Return what tells whether a path below the root is one that `Storage.find` would yield."""
    matches = matcher(glob)

    def is_meant(path: str) -> bool:
        is_hidden = any(part.startswith(".") for part in path.split("/"))
        return not is_hidden and not path.endswith(_IGNORED_ENDINGS) and bool(matches(path))

    return is_meant


def matcher(glob: str) -> Callable[[str], object]:
    """Return what tells whether a path below the root matches."""
    parts = re.split(r"(\*\*/|\*|\?)", glob)
    meaning = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(meaning.get(p, re.escape(p)) for p in parts)).fullmatch
