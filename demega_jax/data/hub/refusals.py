"""What the hub's client raises, as one line for the user: offline, refused, no such repository, no hub at all."""

import contextlib
from collections.abc import Iterator
from typing import Literal

from demega_jax.data.hub.environment import proxy_of
from demega_jax.errors import UserError

TRANSIENT = (408, 500, 502, 503, 504)  # HTTP statuses of faults that can pass
AGAIN = "run the same command again, which continues where it stopped"
LOG_IN = "log in with `hf auth login` (or set HF_TOKEN)"

Kind = Literal["dataset", "model"]
# How a command line names a repository and its revision, and where its page is.
WORDS: dict[Kind, tuple[str, str]] = {"dataset": ("--repo", "datasets/"), "model": ("OWNER/NAME", "")}


def reason_of(error: Exception) -> str:
    """The text of an error, or its name where it has none."""
    return str(error) or type(error).__name__


@contextlib.contextmanager
def told(
    repo: str, revision: str, path: str | None = None, kind: Kind = "dataset", *, writing: bool = False
) -> Iterator[None]:
    """Turn what the hub's client raises into a UserError.

    path: of the file that is asked for.  writing: whether something is sent to the hub.
    """
    # HTTPError is the base of every error of the HTTP client that this version of the hub's client uses.
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, OfflineModeIsEnabled

    where = repo if path is None else f"{repo}: {path}"
    try:
        yield
    except OfflineModeIsEnabled:
        raise UserError(where, "offline by HF_HUB_OFFLINE", "a connection to the hub", "unset HF_HUB_OFFLINE") from None
    except HfHubHTTPError as error:
        raise _refusal(error, repo, revision, where, kind, writing) from None
    except HTTPError as error:
        raise unreachable(where, reason_of(error)) from None
    except HFValidationError:
        option = WORDS[kind][0]
        raise UserError(option, repr(repo), f"OWNER/NAME of a {kind}", f"correct {option}") from None


def unreachable(where: str, reason: str) -> UserError:
    """The UserError for a hub that does not answer."""
    from huggingface_hub import constants

    proxy = proxy_of(constants.ENDPOINT)
    through, check = (f" through the proxy of {proxy}", f"{proxy} and NO_PROXY") if proxy else ("", "proxy")
    came, way_out = f"{constants.ENDPOINT} cannot be reached{through} ({reason})", f"check the network, {check}"
    certificate = ", and SSL_CERT_FILE for the certificates that are trusted" if "CERTIFICATE" in reason else ""
    return UserError(where, came, "a connection to the hub", f"{way_out} and HF_ENDPOINT{certificate}, then {AGAIN}")


@contextlib.contextmanager
def understood(repo: str, kind: Kind = "dataset") -> Iterator[None]:
    """UserError: the answer is no listing, but perhaps the log-in page of a network."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        yield
    except (HFValidationError, HfHubHTTPError):
        raise
    except UnicodeEncodeError:
        came, wanted = "the token of this account has characters that no token has", "letters and digits"
        raise UserError(repo, came, wanted, LOG_IN) from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        came = f"the answer is not that of a hub ({type(error).__name__})"
        raise UserError(repo, came, f"a listing of a {kind}", "check the network, proxy and HF_ENDPOINT") from None


def _refusal(error: Exception, repo: str, revision: str, where: str, kind: Kind, writing: bool) -> UserError:
    """The UserError for an answer of the hub with an error status."""
    from huggingface_hub import constants, errors

    status = getattr(getattr(error, "response", None), "status_code", 0)
    option, place = WORDS[kind]
    may = "write to" if writing else "read"
    if isinstance(error, errors.GatedRepoError):
        page = f"{constants.ENDPOINT}/{place}{repo}"
        wanted = "an account that has accepted its terms"
        return UserError(where, f"gated ({status})", wanted, f"accept its terms at {page}, then {LOG_IN} and run again")
    if isinstance(error, errors.RepositoryNotFoundError):
        came = f"no such {kind}, or one that this account may not see ({status})"
        return UserError(where, came, f"a {kind} on the hub", f"correct {option}; for a private {kind}, {LOG_IN}")
    if isinstance(error, errors.RevisionNotFoundError):
        wanted = f"a branch, tag or commit of the {kind}"
        return UserError(where, f"no revision {revision}", wanted, "correct --revision, or use --revision main")
    if isinstance(error, errors.EntryNotFoundError):
        came = f"no such file at revision {revision[:12]}"
        return UserError(where, came, f"a file of the {kind}", "run the command again, or give another --revision")
    if isinstance(error, errors.DisabledRepoError):
        return UserError(where, f"the hub has closed this {kind}", f"an open {kind}", "ask its owner to open it")
    if status in (401, 403):
        came = f"access refused ({status}): the token is wrong or may not {may} it"
        return UserError(where, came, f"a token that may {may} the {kind}", f"{LOG_IN} and run again")
    if status == 429:
        way_out = f"wait some minutes, or {LOG_IN}, and run again"
        return UserError(where, "too many requests (429)", "fewer requests", way_out)
    wanted = "to take the files" if writing else "the files"
    if status in TRANSIENT:
        return UserError(where, f"the hub answers {status}", wanted, f"wait some minutes, then {AGAIN}")
    return UserError(where, f"the hub answers {status}", wanted, f"correct {option} or --revision")
