"""Opening a file for reading: decompressed by its name's ending, and as UTF-8 whatever it is in.

Damage is not an error here: what could be read before it is given out, and `fault` says the rest.
"""

import bz2
import codecs
import gzip
import io
import zlib
from typing import Any, BinaryIO, Protocol, cast

import pyarrow as pa

# The endings that say how a file is compressed.
COMPRESSIONS = (".gz", ".bz2", ".zst")

_PIECE_BYTES = 64 * 1024


class Source(Protocol):
    """What the readers of text formats need of a file."""

    @property
    def fault(self) -> str:
        """What is wrong with the file itself; known when it was read."""

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end."""


class Compressed:
    """A compressed file. `fault` is set where it is damaged, and reading ends there."""

    def __init__(self, raw: BinaryIO, name: str) -> None:
        """Decompress a stream by the ending of its name; any other is passed through."""
        self.fault = ""
        self._waiting = b""
        self._stream: Any = raw  # Python's streams and Arrow's share no type
        if name.endswith(".gz"):
            self._stream = gzip.GzipFile(fileobj=raw)
        elif name.endswith(".bz2"):
            self._stream = bz2.BZ2File(raw)
        elif name.endswith(".zst"):
            self._stream = pa.CompressedInputStream(cast(io.IOBase, raw), "zstd")
        self._is_plain = self._stream is raw

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end or before damage."""
        if self._is_plain:
            return bytes(self._stream.read(size))
        parts, missing = [], size
        while missing > 0 and (part := self._piece(missing)):
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _piece(self, size: int) -> bytes:
        """Return some bytes. Small pieces: what precedes damage within one is lost with it."""
        size = min(size, _PIECE_BYTES)
        try:
            # read1 keeps what it has when the next piece is damaged.
            return bytes(getattr(self._stream, "read1", self._stream.read)(size))
        except (EOFError, zlib.error, pa.ArrowException):
            self.fault = "the compressed file is damaged or cut off"
        except OSError as error:
            if error.errno is not None:
                raise  # the disk failed, not the content
            self.fault = "the compressed file is damaged or cut off"
        return b""


class Transcoded:
    """A text in any of Python's encodings, as UTF-8.

    A byte that has no meaning in the encoding becomes 0xFF and itself, which is not UTF-8: the
    record that holds it is rejected, and no other.
    """

    def __init__(self, source: Source, encoding: str) -> None:
        """Read from `source`, which is in `encoding`."""
        self._source = source
        self._decoder = codecs.getincrementaldecoder(encoding)(_KEEP)
        self._text = b""

    @property
    def fault(self) -> str:
        """What is wrong with the file itself."""
        return self._source.fault

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        while len(self._text) < size:
            block = self._source.read(size)
            self._text += self._decoder.decode(block, final=not block).encode("utf-8", _KEEP)
            if not block:
                break
        result, self._text = self._text[:size], self._text[size:]
        return result


def _keep(error: UnicodeError) -> tuple[str | bytes, int]:
    if isinstance(error, UnicodeDecodeError):
        wrong = error.object[error.start : error.end]
        return "".join(chr(0xDC00 + b) for b in b"\xff" + wrong), error.end
    if isinstance(error, UnicodeEncodeError):
        marks = error.object[error.start : error.end]
        return bytes(
            ord(m) & 0xFF if 0xDC00 <= ord(m) <= 0xDCFF else 0xFF for m in marks
        ), error.end
    raise error


_KEEP = "ingestion.keep"
codecs.register_error(_KEEP, _keep)


def open_text(raw: BinaryIO, name: str, encoding: str) -> Source:
    """Return a file's text as UTF-8. `encoding` utf-8 is passed on unchecked."""
    source = Compressed(raw, name)
    return source if codecs.lookup(encoding).name == "utf-8" else Transcoded(source, encoding)
