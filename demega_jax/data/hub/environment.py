"""The environment variables that the hub's client reads: it would end in a traceback, or blame the hub for them.

They are looked at before the client is imported, as it reads some of them once, at its import.
"""

import importlib.util
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

from demega_jax.errors import ADDRESSES, UserError
from demega_jax.files import expanded

SOCKS = ("socks5", "socks5h")
PROXIES = ("http", "https", *SOCKS)
TIMEOUTS = ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT")
HUB_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
CACHES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME")


def check_environment() -> None:
    """UserError, which names the variable: an address, a certificate, a timeout or a token that cannot be used.

    No value of them is shown but that of a timeout or a path, as an address or a token can hold a password.
    """
    check_addresses()
    _check_certificates()
    for name in TIMEOUTS:
        _check_timeout(name)
    for name in HUB_TOKENS:
        if not all(" " < letter <= "~" for letter in os.environ.get(name, "").strip()):
            raise _wrong(name, "it has characters that no token has", "the letters and digits of a token")


def _wrong(name: str, came: str, wanted: str) -> UserError:
    return UserError(name, came, wanted, f"correct or unset the environment variable {name}")


def check_addresses() -> None:
    """UserError: HF_ENDPOINT or a proxy is no address, or a kind of proxy for which a package is missing."""
    for name, text in _addresses():
        proxy = not name.startswith("HF_")
        scheme = _scheme(text if "://" in text or not proxy else f"http://{text}")
        if scheme not in (PROXIES if proxy else ("http", "https")):
            wanted = (
                "an address such as https://user:password@host:port, in which / and @ of a password are %2F and %40"
            )
            raise _wrong(name, "it is no address", wanted)
        if scheme in SOCKS and importlib.util.find_spec("socksio") is None:
            came, wanted = "a SOCKS proxy, for which the package socksio is missing", "that package, or an HTTP proxy"
            raise UserError(name, came, wanted, f"run `pip install socksio`, or unset the environment variable {name}")


def _addresses() -> Iterator[tuple[str, str]]:
    """The variables that hold an address, and what they hold."""
    for name in (form for each in ADDRESSES for form in (each, each.lower())):
        if text := os.environ.get(name, ""):
            yield name, text


def _scheme(address: str) -> str | None:
    """The scheme of an address; None: it is none."""
    if any(letter <= " " or letter == "\x7f" for letter in address):
        return None
    try:
        parts = urlsplit(address)
        parts.netloc.rpartition("@")[2].encode("idna")
        sound = parts.hostname and parts.port != 0 and "@" not in parts.path
    except ValueError:  # a port that is no number, or a name with an empty part
        return None
    return parts.scheme if sound else None


def _check_certificates() -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if not (path := os.environ.get(name)):
            continue
        try:
            if name == "SSL_CERT_FILE":
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
            else:
                next(Path(path).iterdir(), None)
        except OSError as error:  # also that of a file without certificates
            came = "it holds no certificate" if isinstance(error, ssl.SSLError) else f"{error.strerror}"
            wanted = "certificates in a PEM file" if name == "SSL_CERT_FILE" else "a folder of certificates"
            raise _wrong(name, f"{path}: {came}", wanted) from None
    if path := os.environ.get("SSLKEYLOGFILE"):
        try:
            open(path, "ab").close()
        except OSError as error:
            raise _wrong("SSLKEYLOGFILE", f"{path}: {error.strerror}", "a file that can be written") from None


def _check_timeout(name: str) -> None:
    text = os.environ.get(name)
    if text is None:
        return
    try:
        sound = len(text) < 10 and int(text) >= 1
    except ValueError:
        sound = False
    if not sound:
        raise _wrong(name, repr(text[:40]), "a whole number of seconds, at least 1")


def check_cache() -> None:
    """UserError: the hub's client would put its cache into a folder named `~` here, as this user has no home."""
    if not any(os.environ.get(name) for name in CACHES) and not os.path.isabs(expanded("~")):
        came, wanted = "it is not set, and the system knows no home of this user", "a folder for models from the hub"
        raise UserError("HOME", came, wanted, "set HF_HOME to a folder, or HOME")


def proxy_of(address: str) -> str | None:
    """The variable with the proxy through which an address is asked; None: there is none."""
    parts = urlsplit(address)
    if proxy_bypass(parts.hostname or ""):
        return None
    names = (f"{parts.scheme}_proxy", f"{parts.scheme}_proxy".upper(), "all_proxy", "ALL_PROXY")
    return next((name for name in names if os.environ.get(name)), None)
