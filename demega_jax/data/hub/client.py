"""Datasets on the hub: the files of one at a commit, and the bytes of a file from any place on.

Requests go through the hub's own client, with its settings for endpoint, token, proxies and retries. Only the bytes of
files are read here: if that client is interrupted, it drops what it has of a file and begins again.
"""

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator

from demega_jax import __version__
from demega_jax.data.hub.environment import check_environment
from demega_jax.data.hub.refusals import TRANSIENT, reason_of, told, understood
from demega_jax.errors import UserError

INFO_TIMEOUT = 30.0  # s in which the hub must say which commit a revision is


@dataclasses.dataclass(frozen=True)
class HubFile:
    """A file of a dataset at a commit. sha256: of large files; git_sha1: of the others, as git names a blob."""

    repo: str
    revision: str
    path: str
    size: int
    sha256: str | None
    git_sha1: str

    @property
    def checksum(self) -> str:
        """The checksum that its bytes must have, in hexadecimal."""
        return self.sha256 or self.git_sha1

    def hasher(self) -> "hashlib._Hash":
        """A hash object, which gives `checksum` after all bytes."""
        if self.sha256 is not None:
            return hashlib.sha256()
        # git hashes the length of a file and then its bytes. Nothing secret depends on this hash.
        return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)


@dataclasses.dataclass(frozen=True)
class HubTree:
    """The files of a dataset at a commit (40 hexadecimal digits)."""

    repo: str
    revision: str
    files: tuple[HubFile, ...]


class Cut(Exception):
    """A transfer was cut, and may succeed when it is tried again. The text says why."""


def resolve_revision(repo: str, revision: str, timeout: float = INFO_TIMEOUT) -> str:
    """The commit that a branch, tag or commit is now. UserError: the hub cannot be asked or does not say.

    timeout: seconds to wait for it.
    """
    check_environment()
    from huggingface_hub import HfApi
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # our own line of text says what it would log
    with told(repo, revision), understood(repo):
        sha = (
            HfApi(library_name="demega-jax", library_version=__version__)
            .dataset_info(repo, revision=revision, timeout=timeout)
            .sha
        )
    if sha is None:
        raise UserError(repo, "the hub does not say which commit this is", "a commit", "use --revision COMMIT")
    return sha


def list_tree(repo: str, commit: str) -> HubTree:
    """All files of a dataset at a commit. UserError: as `resolve_revision`."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    api = HfApi(library_name="demega-jax", library_version=__version__)
    with told(repo, commit), understood(repo):
        entries = list(api.list_repo_tree(repo, recursive=True, revision=commit, repo_type="dataset"))
    files = tuple(
        HubFile(repo, commit, entry.path, entry.size, entry.lfs.sha256 if entry.lfs else None, entry.blob_id)
        for entry in entries
        if isinstance(entry, RepoFile)
    )
    return HubTree(repo, commit, files)


@contextlib.contextmanager
def open_stream(file: HubFile, start: int, stop: int) -> Iterator[tuple[int, Iterator[bytes]]]:
    """(where they begin, the bytes) of a file from `start` up to `stop`. A server may ignore `start` and begin at 0.

    Raises: `Cut` for faults that can pass, also while the bytes are read; `UserError` for all others.
    """
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.errors import HTTPError
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_stream_backoff

    headers = build_hf_headers(library_name="demega-jax", library_version=__version__)
    headers["Accept-Encoding"] = "identity"  # not compressed, as ranges count the file's own bytes
    if start or stop < file.size:
        headers["Range"] = f"bytes={start}-{stop - 1}"
    url = hf_hub_url(file.repo, file.path, repo_type="dataset", revision=file.revision)
    with told(file.repo, file.revision, file.path), contextlib.ExitStack() as stack:
        try:
            # This waits as long as the hub asks for (429). The caller, which knows what it has, does all other retries.
            response = stack.enter_context(
                http_stream_backoff(
                    "GET",
                    url,
                    headers=headers,
                    timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
                    retry_on_exceptions=(),
                    retry_on_status_codes=429,
                )
            )
            if response.status_code in TRANSIENT:
                raise Cut(f"the hub answers {response.status_code}")
            if response.status_code == 416:
                raise Cut("the hub has no bytes from there on")
            hf_raise_for_status(response)
            begin = _first_byte(response.headers.get("Content-Range")) if response.status_code == 206 else 0
            if begin not in (0, start):
                raise Cut(f"the hub sends bytes from {begin} on, not from {start}")
            yield begin, response.iter_bytes()
        except HTTPError as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            if status is not None:
                raise
            raise Cut(reason_of(error)) from None


def _first_byte(content_range: str | None) -> int:
    """The number 5 of `bytes 5-9/10`."""
    digits = (content_range or "").removeprefix("bytes ").partition("-")[0]
    return int(digits) if digits.isdigit() else -1
