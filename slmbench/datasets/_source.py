"""A file's bytes and text: unpacked where it is gzip, in the encoding that it says or declares, other kinds refused."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from typing import IO

from attrs import field, frozen

from slmbench.errors import DataError
from slmbench.foreign import open_plain
from slmbench.paths import shown
from slmbench.schema import ReadSpec

MAX_BYTES = 4_000_000_000
"""Of a file's text, unpacked: what is beyond that in one file belongs into Parquet."""

_GZIP = b"\x1f\x8b"
_OTHERS: dict[bytes, str] = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook (.xlsx); save its sheet as CSV, or unpack it",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook (.xls); save its sheet as CSV",
    b"ARROW1": "an Arrow file; write the table as Parquet",
    b"\x28\xb5\x2f\xfd": "packed with zstd; unpack it, or pack it with gzip",
    b"BZh": "packed with bzip2; unpack it, or pack it with gzip",
    b"\xfd7zXZ": "packed with xz; unpack it, or pack it with gzip",
    b"SQLite format 3": "an SQLite database; write the table as CSV",
    b"\x89HDF": "an HDF5 file; write the table as Parquet",
    b"\x80\x04\x95": "a pickle, which runs code when it is read; write the table as Parquet",
    b"Obj\x01": "an Avro file; write the table as Parquet",
    b"%PDF": "a PDF",
}
# The longest first: UTF-32's mark begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@frozen
class Source:
    """A file of rows, maybe packed with gzip. Every method raises DataError with the file and, if known, a line."""

    path: str
    read: ReadSpec = field(factory=ReadSpec)

    @property
    def where(self) -> str:
        return shown(self.path)

    def open(self) -> IO[bytes]:
        """The file's bytes, unpacked, from their beginning on. Raises DataError for a kind that isn't read."""
        try:
            file = open_plain(self.path)
        except OSError as error:
            raise DataError(f"{self.where}: can't be read: {error.strerror}") from error
        start = file.read(16)
        for magic, what in _OTHERS.items():
            if start.startswith(magic):
                file.close()
                raise DataError(f"{self.where}: is {what}")
        file.seek(0)
        # By its first bytes: a browser that unpacks a download leaves the name as it was.
        return io.BufferedReader(gzip.GzipFile(fileobj=file)) if start.startswith(_GZIP) else file

    def starts_with(self, magic: bytes) -> bool:
        with self.open() as file:
            return self._peek(file, len(magic)) == magic

    def data(self) -> bytes:
        """All bytes, unpacked."""
        with self.open() as file:
            try:
                data = file.read(MAX_BYTES + 1)
            except (OSError, EOFError, zlib.error) as error:
                raise DataError(f"{self.where}: can't be unpacked: {error}; it was cut off or damaged") from error
        if len(data) > MAX_BYTES:
            raise DataError(f"{self.where}: has more than {MAX_BYTES:,} bytes of text; write the table as Parquet")
        return data

    def text(self) -> str:
        """The text, without a byte order mark; line ends as they are."""
        data = self.data()
        encoding = self.encoding(data[:4])
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            raise DataError(f"{self.where}:{line}: {_not_in(encoding, data, error)}") from error
        if "\0" in text:
            line = text.count("\n", 0, text.index("\0")) + 1
            raise DataError(f"{self.where}:{line}: {_NUL}")
        return text.removeprefix("\ufeff")

    def lines(self) -> Iterator[bytes]:
        """The lines in UTF-8 with their ends; a byte order mark may stand before the first one."""
        with self.open() as file:
            as_utf8 = self.encoding(self._peek(file, 4)) in ("utf-8", "utf-8-sig")
            if as_utf8:
                try:
                    yield from file
                except (OSError, EOFError, zlib.error) as error:
                    raise DataError(f"{self.where}: can't be unpacked: {error}; it was cut off or damaged") from error
        if not as_utf8:
            yield from io.BytesIO(self.text().encode("utf-8", "surrogatepass"))

    def encoding(self, start: bytes) -> str:
        """The declared encoding, else that of the byte order mark, else UTF-8."""
        if self.read.encoding is not None:
            return self.read.encoding
        return next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8")

    def _peek(self, file: IO[bytes], n: int) -> bytes:
        try:
            start = file.read(n)
            file.seek(0)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{self.where}: can't be unpacked: {error}; it was cut off or damaged") from error
        return start


_NEW = " (`slmbench new task`: --encoding)"
_NUL = (
    "holds a NUL character, which no text has; the file is damaged, or UTF-16 without a byte order mark: declare "
    f"`read: {{encoding: utf-16-le}}` in the data set{_NEW}"
)


def not_utf8(line: bytes, error: UnicodeDecodeError) -> str:
    """What to say of a line of bytes that is not UTF-8."""
    return _not_in("utf-8", line, error)


def _not_in(encoding: str, data: bytes, error: UnicodeDecodeError) -> str:
    said = "UTF-8" if encoding.startswith("utf-8") else encoding
    begin = data.rfind(b"\n", 0, error.start) + 1
    message = f"not {said} at byte {error.start - begin + 1} of the line"
    if said != "UTF-8":
        return f"{message}; correct `read: {{encoding: {encoding}}}` in the data set"
    try:
        there = bytes(data[error.start : error.start + 1]).decode("cp1252")
    except UnicodeDecodeError:
        return f"{message}; save the file as UTF-8, or declare its encoding, as in `read: {{encoding: latin-1}}`{_NEW}"
    return (
        f"{message}, which is {there!r} if it is Windows' cp1252; save the file as UTF-8, or declare "
        f"`read: {{encoding: cp1252}}` in the data set{_NEW}"
    )
