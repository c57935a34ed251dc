"""Models on the hub: the files of one at a revision, in the cache of the hub's own client."""

import re
from collections.abc import Sequence
from pathlib import Path

from demega_jax import __version__
from demega_jax.data.hub.environment import check_cache, check_environment
from demega_jax.data.hub.refusals import told, understood, unreachable
from demega_jax.errors import UserError

REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_repo_name(text: str) -> bool:
    """Whether a text can name a repository: OWNER/NAME, and no path such as ./a/b or a/b/c."""
    return REPO.fullmatch(text) is not None


def check_repo_name(text: str) -> None:
    """UserError: a text is not of the form OWNER/NAME."""
    if not is_repo_name(text):
        way_out = "write OWNER/NAME, as on the page of the model"
        raise UserError("REPO", f"{text!r} does not name a model on the hub", "OWNER/NAME", way_out)


def fetch_model(repo: str, revision: str | None, patterns: Sequence[str]) -> tuple[Path, str]:
    """(folder, commit) of the files of a model that match patterns, in the cache of the hub's client.

    revision: branch, tag or commit; None: main. Files that the cache has are not fetched again. Where the hub cannot be
    reached (or HF_HUB_OFFLINE is set), the cache alone answers. UserError: the hub refuses or has no such model, or
    neither the hub nor the cache can give the files.
    """
    check_environment()
    check_cache()
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # our own line of text says what it would log
    asked = revision or "main"
    try:
        with told(repo, asked, kind="model"), understood(repo, "model"):
            folder = snapshot_download(
                repo,
                revision=asked,
                allow_patterns=list(patterns),
                library_name="demega-jax",
                library_version=__version__,
            )
    except LocalEntryNotFoundError as error:
        if constants.HF_HUB_OFFLINE:
            came = f"offline by HF_HUB_OFFLINE, and the cache does not hold {asked}"
            way_out = "unset HF_HUB_OFFLINE, or give a --revision that was fetched before"
            raise UserError(repo, came, "a connection to the hub, or a model in the cache", way_out) from None
        reason = " ".join(str(error.__cause__ or "no answer").split())[:120]
        raise unreachable(repo, f"{reason}; the cache does not hold {asked} either") from None
    except OSError as error:
        came = f"the files cannot be written to the cache ({error.strerror or error})"
        way_out = "free space, or set HF_HOME to another folder"
        raise UserError(repo, came, f"space in {constants.HF_HUB_CACHE}", way_out) from None
    return Path(folder), Path(folder).name
