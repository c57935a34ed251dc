"""Inspection of downloaded files: whether their bytes are those that download.json recorded."""

import dataclasses
import os
from pathlib import Path

from demega_jax.data.hub.client import HubFile
from demega_jax.data.hub.record import RECORD, FileEntry, read_record
from demega_jax.data.hub.transfer import has_checksum
from demega_jax.data.inspect.report import Report
from demega_jax.errors import UserError, listed, warn

ABOVE = 3  # folders above a path in which its download.json can be: OUT/data/grouped_K/FILE


@dataclasses.dataclass(frozen=True)
class DownloadFacts:
    """What was downloaded to a path. files, nbytes: of those that were read.  datasets: the commit of each.

    checksums: "verified" or "do not agree".
    """

    files: int
    nbytes: int
    datasets: dict[str, str]
    checksums: str


def inspect_download(path: Path) -> Report | None:
    """The report of the recorded files at a path, every byte of which is read; None: none of them was downloaded."""
    place = Path(os.path.abspath(path))
    folder = next((above for above in [place, *place.parents[:ABOVE]] if (above / RECORD).is_file()), None)
    if folder is None:
        return None
    report = Report(folder / RECORD, "download")
    with report.watch():
        record = read_record(folder)
        entries = {
            folder / name: (repo, dataset.revision, entry)
            for repo, dataset in record.datasets.items()
            for name, entry in dataset.files.items()
            if (folder / name).is_relative_to(place)
        }
        there = {file: known for file, known in entries.items() if file.is_file()}
        for file, (repo, revision, entry) in there.items():
            with report.going_on():
                _compare(file, repo, revision, entry)
        if gone := sorted(str(file.relative_to(folder)) for file in entries.keys() - there.keys()):
            warn(f"{len(gone)} of {len(entries)} downloaded files are not there any more: {listed(gone)}")
        datasets = {repo: revision for repo, revision, _ in there.values()}
        checksums = "do not agree" if report.problems else "verified"
        report.facts = DownloadFacts(len(there), sum(entry.size for _, _, entry in there.values()), datasets, checksums)
        if not there:
            return None
    return report


def _compare(file: Path, repo: str, revision: str, entry: FileEntry) -> None:
    """UserError: the bytes of a file are not those of the hub, or cannot be read."""
    hub = HubFile(repo, revision, entry.source, entry.size, entry.sha256, entry.git_sha1)
    way_out = f"move it away and run `demega-jax download` again, or remove it from {RECORD} if you changed it"
    wanted = f"the bytes of {entry.source} of {repo} at {revision[:12]}, as {RECORD} says"
    try:
        if (size := file.stat().st_size) != entry.size:
            raise UserError(file, f"{size} bytes", f"{entry.size} bytes: {wanted}", way_out)
        if not has_checksum(hub, file, lambda count: None):
            raise UserError(file, f"altered, as its checksum is not {hub.checksum[:16]}", wanted, way_out)
    except OSError as error:
        raise UserError(file, f"cannot be read ({error.strerror})", wanted, "check the disk, or " + way_out) from None
