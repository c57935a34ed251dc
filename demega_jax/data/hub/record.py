"""OUT/download.json: from which datasets and commits the files of a folder came, and what their bytes must be."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from demega_jax.data.hub.client import HubFile
from demega_jax.errors import UserError
from demega_jax.files import write_text
from demega_jax.reading import read_json

RECORD = "download.json"
VERSION = 1


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FileEntry(_Entry):
    """A file with the hub's bytes. source: its path in the dataset.  mtime_ns: its time of change when checked."""

    source: str
    size: int
    sha256: str | None
    git_sha1: str
    mtime_ns: int


class RepoEntry(_Entry):
    """A dataset: the commit of all its files here, and the files by their path below the folder."""

    revision: str
    files: dict[str, FileEntry] = Field(default_factory=dict)


class Record(_Entry):
    """The content of download.json. datasets: by OWNER/NAME."""

    format: Literal["demega-jax download"] = "demega-jax download"
    version: int = VERSION
    datasets: dict[str, RepoEntry] = Field(default_factory=dict)

    def holds(self, file: HubFile, name: str, path: Path) -> bool:
        """Whether `path`, recorded as `name`, had the bytes of `file` and has not changed since then."""
        dataset = self.datasets.get(file.repo)
        entry = dataset.files.get(name) if dataset is not None else None
        if entry is None or (entry.size, entry.sha256, entry.git_sha1) != (file.size, file.sha256, file.git_sha1):
            return False
        found = path.stat()
        return (found.st_size, found.st_mtime_ns) == (entry.size, entry.mtime_ns)


def read_record(out: Path) -> Record:
    """The record of a folder; an empty one where there is none. UserError: damaged, or of a newer format."""
    path = out / RECORD
    again = "move it away, and the files that are there are compared with the hub once more"
    try:
        raw = read_json(path)
        version = raw.get("version") if isinstance(raw, dict) else None
        if isinstance(version, int) and version > VERSION:
            raise UserError(path, f"format {version}", f"format {VERSION} or older", f"update demega-jax, or {again}")
        return Record.model_validate(raw)
    except FileNotFoundError:
        return Record()
    except OSError as error:
        came = f"cannot be read ({error.strerror})"
        raise UserError(out, came, "a folder for the download", "choose another folder") from None
    except (ValidationError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(path, f"damaged ({reason})", "the record of a download", again) from None


def write_record(out: Path, repo: str, revision: str, files: dict[str, FileEntry]) -> None:
    """Add files of a dataset to the record. UserError: it cannot be written.

    The record is read again each time, as another process may be fetching other files into the same folder.
    """
    record = read_record(out)
    dataset = record.datasets.setdefault(repo, RepoEntry(revision=revision))
    dataset.revision = revision
    dataset.files |= files
    write_text(out / RECORD, record.model_dump_json(indent=1) + "\n")


def entry_of(file: HubFile, path: Path) -> FileEntry:
    """The entry for a file whose bytes have just been checked."""
    return FileEntry(
        source=file.path, size=file.size, sha256=file.sha256, git_sha1=file.git_sha1, mtime_ns=path.stat().st_mtime_ns
    )
