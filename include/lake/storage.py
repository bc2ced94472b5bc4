"""Where exports are kept: a folder or object storage, the root in AIRLOCK_EXPORT_ROOT.

    exports/<schema>/<table>/<day>/manifest.json     what is valid; names the object beside it
    exports/<schema>/<table>/<day>/<batch_id>_<checksum>.parquet
    archive/...                                      the same, for what has become old
    temporary/...                                    unfinished uploads; nothing reads them

Whoever reads an export begins with its manifest. It is written last and replaced in one step, so it names a complete
object.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from hashlib import file_digest, sha256
from typing import Any, Self
from uuid import uuid4

import msgspec

from include.errors import PermanentError
from include.settings import settings

EXPORTS, ARCHIVE, TEMPORARY = "exports", "archive", "temporary"
_MANIFEST = "manifest.json"
_PART = 8 << 20  # bytes of an upload that are in memory at once; S3 takes no less than 5 MiB


@dataclass(frozen=True)
class Figures:
    """What is counted of a column on both sides of a copy, to compare them."""

    values: int
    """How many are not NULL."""
    sum: str | None
    """Of a column of numbers, as decimal text."""


@dataclass(frozen=True)
class Manifest:
    """What an export consists of, and where it came from."""

    table: str
    """`<schema>.<table>`, as its readers will know it."""
    day: str
    """YYYY-MM-DD."""
    batch_id: str
    rows: int
    bytes: int
    sha256: str
    """Of the object's bytes, in hex."""
    columns: dict[str, str]
    """The Arrow type of each column, in order."""
    figures: dict[str, Figures]
    query: str
    """The statement whose rows the object holds."""
    dag_id: str
    run_id: str
    exported_at: str
    """ISO 8601, in UTC."""

    @property
    def key(self) -> str:
        """The object's place below exports/ or archive/; no other content ever has this name."""
        return f"{day_folder(self.table, self.day)}/{self.batch_id}_{self.sha256[:12]}.parquet"

    @property
    def lock(self) -> str:
        """The lock of include/warehouse/register.py that whoever changes the export of this day holds."""
        return f"export {self.table}/{self.day}"

    @classmethod
    def read(cls, values: Any) -> Self:
        """Return a manifest from the values that asdict returns; raises PermanentError when they are not those."""
        try:
            return msgspec.convert(values, cls)
        except msgspec.ValidationError as error:
            raise PermanentError(f"This is no manifest of an export: {error}. Run the export again.") from None


def day_folder(table: str, day: date | str) -> str:
    """Return the place of a day's export below exports/ or archive/."""
    return f"{table.replace('.', '/')}/{day}"


def folder(*parts: str) -> Any:
    """Return a place below the root, as an ObjectStoragePath."""
    from airflow.sdk import ObjectStoragePath

    return ObjectStoragePath("/".join((settings().export_root.rstrip("/"), *parts)))


class Upload:
    """A file for pyarrow to write into, which counts and hashes what passes."""

    closed = False

    def __init__(self, file: Any) -> None:
        self._file, self._hash, self.bytes = file, sha256(), 0

    def write(self, data: Any) -> int:
        """Write bytes; returns their number."""
        self._hash.update(data)
        self._file.write(data)
        self.bytes += len(data)
        return len(data)

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self.bytes

    def flush(self) -> None:
        """Do nothing: an object is complete when it is closed."""

    @property
    def sha256(self) -> str:
        """The checksum of what was written, in hex."""
        return self._hash.hexdigest()


@contextmanager
def uploading() -> Iterator[tuple[Any, Upload]]:
    """Yield a temporary place and a file that is written there; after an error it is removed."""
    place = folder(TEMPORARY, f"{uuid4()}.parquet")
    if place.protocol in ("", "file"):
        place.parent.mkdir(parents=True, exist_ok=True)
    with _removed_after_an_error(place), place.fs.open(place.path, "wb", block_size=_PART) as file:
        yield place, Upload(file)


@contextmanager
def _removed_after_an_error(place: Any) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(Exception):  # what stays there is never read, and expires
            place.fs.rm(place.path)
        raise


def put(place: Any, manifest: Manifest) -> None:
    """Make a finished upload the export of its table and day, in place of the one before."""
    target = folder(EXPORTS, manifest.key)
    if target.protocol in ("", "file"):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _removed_after_an_error(place):
        target.fs.mv(place.path, target.path)
    _replace(folder(EXPORTS, day_folder(manifest.table, manifest.day), _MANIFEST), msgspec.json.encode(manifest))
    _remove_others(target)


def current(table: str, day: date | str) -> Manifest | None:
    """Return the manifest of a table's export of a day; None when there is none."""
    try:
        text = folder(EXPORTS, day_folder(table, day), _MANIFEST).read_bytes()
    except FileNotFoundError:
        return None
    try:
        return Manifest.read(msgspec.json.decode(text))
    except (PermanentError, msgspec.DecodeError) as error:
        place = folder(EXPORTS, day_folder(table, day), _MANIFEST)
        raise PermanentError(f"{place} cannot be read: {error} Remove it, or run the export again.") from None


@contextmanager
def reading(manifest: Manifest) -> Iterator[Any]:
    """Yield the object of an export as a file; raises PermanentError when it is not there."""
    place = folder(EXPORTS, manifest.key)
    try:
        file = place.fs.open(place.path, "rb", block_size=_PART)
    except FileNotFoundError:
        raise PermanentError(f"{place} does not exist any more: clear the run from its start task on.") from None
    with file:
        yield file


def checksum(manifest: Manifest) -> str:
    """Return the SHA-256 of an export's object as it is now, in hex."""
    with reading(manifest) as file:
        return file_digest(file, "sha256").hexdigest()


def exported_days(table: str) -> list[str]:
    """Return the days that a table has exports of; those in the archive are left out."""
    return sorted(path.name for path in _files(folder(EXPORTS, *table.split("."))))


def archive(manifest: Manifest) -> None:
    """Move an export to the archive. The manifest goes last, so after an interruption the next call goes on."""
    for key in (manifest.key, f"{day_folder(manifest.table, manifest.day)}/{_MANIFEST}"):
        source, target = folder(EXPORTS, key), folder(ARCHIVE, key)
        if target.protocol in ("", "file"):
            target.parent.mkdir(parents=True, exist_ok=True)
        if source.exists():
            source.fs.mv(source.path, target.path)
    _remove_others(folder(ARCHIVE, manifest.key))


def _remove_others(place: Any) -> None:
    """Remove the earlier objects of a day, which no manifest names."""
    for path in _files(place.parent):
        if path.name not in (place.name, _MANIFEST):
            path.unlink()


def _files(place: Any) -> list[Any]:
    try:
        return list(place.iterdir())
    except (FileNotFoundError, NotADirectoryError):  # S3 has no folders, only names of objects
        return []


def _replace(place: Any, content: bytes) -> None:
    """Write an object. S3 replaces it in one step; in a folder it is renamed."""
    if place.protocol not in ("", "file"):
        place.write_bytes(content)
        return
    draft = place.with_name(f".{uuid4().hex}")
    draft.write_bytes(content)
    draft.fs.mv(draft.path, place.path)
