"""Environment variables that the hub's client cannot use: each is named, and nothing is asked of the hub."""

import importlib.util
import os
import pwd
import socket
import subprocess
from pathlib import Path

import pytest
from helpers import ROOT
from helpers.errors import assert_facts, fails_with, refused
from helpers.hub import TRAIN_10, contents, grouped_files
from helpers.runs import process

import demega_jax
from demega_jax.data.hub.environment import check_environment, proxy_of

SOCKS = "socks5://anna:geheim-123@127.0.0.1:9"
WRONG = [
    ("ALL_PROXY", SOCKS, "socksio"),
    ("https_proxy", "socks5h://127.0.0.1:9", "pip install socksio"),
    ("SSL_CERT_FILE", "{here}/none.pem", "none.pem", "No such file"),
    ("SSL_CERT_FILE", "{here}", "directory"),
    ("SSL_CERT_FILE", "{here}/text", "no certificate"),
    ("SSL_CERT_DIR", "{here}/none", "none", "No such file"),
    ("SSLKEYLOGFILE", "{here}/none/log", "No such file"),
    ("HF_ENDPOINT", "127.0.0.1:9", "address"),
    ("HF_ENDPOINT", "http://a..b", "address"),
    ("HF_ENDPOINT", "http://a b", "address"),
    ("HF_ENDPOINT", "http://127.0.0.1:99999", "address"),
    ("HF_HUB_ETAG_TIMEOUT", "1.5", "1.5", "whole number"),
    ("HF_HUB_DOWNLOAD_TIMEOUT", "soon", "soon", "seconds"),
    ("HF_HUB_DOWNLOAD_TIMEOUT", "-1", "at least 1"),
    ("HF_HUB_DOWNLOAD_TIMEOUT", "", "at least 1"),
    ("HF_TOKEN", "hf_geheim-123ä", "token"),
    ("HF_TOKEN", "hf_geheim-123\nx", "token"),
]


@pytest.fixture
def clean(monkeypatch, tmp_path) -> Path:
    """An environment without any of them."""
    for name in list(os.environ):
        if "proxy" in name.lower() or name.startswith(("HF_", "SSL")):
            monkeypatch.delenv(name)
    (tmp_path / "text").write_text("no certificate\n")
    return tmp_path


@pytest.mark.parametrize(("name", "value", "facts"), [(name, value, facts) for name, value, *facts in WRONG])
def test_the_variable_is_named_in_every_command_and_in_python(clean, capsys, monkeypatch, name, value, facts):
    monkeypatch.setenv(name, value.format(here=clean))
    lines = [
        fails_with(capsys, ["download", clean / "out", "--level", 5], name, "unset", *facts),
        fails_with(capsys, ["pull", "a/b", clean / "out"], name, *facts),
    ]
    with refused(name, *facts, where=name):
        demega_jax.load("a/b")
    assert not any("geheim" in line for line in lines) and not (clean / "out").exists()


def test_what_can_be_used_passes(clean, monkeypatch):
    certificates = next(path for path in Path("/etc/ssl/certs").glob("*") if path.suffix in (".pem", ".crt"))
    for name, value in {
        "HTTP_PROXY": "http://a:b@127.0.0.1:3128",
        "https_proxy": "localhost:80",
        "SSL_CERT_DIR": str(clean),
        "SSL_CERT_FILE": str(certificates),
        "HF_HUB_ETAG_TIMEOUT": "30",
        "HF_TOKEN": "hf_abc",
        "NO_PROXY": "*",
        "HF_ENDPOINT": "https://b\u00fccher.example:8443/hub",
    }.items():
        monkeypatch.setenv(name, value)
    check_environment()


def test_a_socks_proxy_passes_where_its_package_is(clean, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    check_environment()


def test_the_proxy_that_is_used(clean, monkeypatch):
    assert proxy_of("http://a.b/c") is None
    monkeypatch.setenv("ALL_PROXY", "http://p")
    assert proxy_of("http://a.b/c") == "ALL_PROXY"
    monkeypatch.setenv("HTTPS_PROXY", "http://p")
    assert (proxy_of("https://a.b"), proxy_of("http://a.b")) == ("HTTPS_PROXY", "ALL_PROXY")
    monkeypatch.setenv("NO_PROXY", "a.b")
    assert proxy_of("https://a.b") is None and proxy_of("https://c.b") == "HTTPS_PROXY"


def test_a_user_without_a_home_is_told_where_models_could_go(clean, capsys, monkeypatch):
    def no_entry(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.chdir(clean)
    fails_with(capsys, ["pull", "a/b", "out"], "HOME", "HF_HOME")
    assert [path.name for path in clean.iterdir()] == ["text"]


def run(url: str, out: Path, **more: str) -> subprocess.CompletedProcess:
    env = os.environ | {"HF_ENDPOINT": url, "HF_TOKEN_PATH": str(out / "none")} | more
    words = process("download", out, "--level", 10, "--split", "train")
    return subprocess.run(words, env=env, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.slow
def test_real_processes_and_a_real_hub(hub, clean):
    """The hub's client reads most of its environment once in the life of a process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
        for more, facts in [
            ({"ALL_PROXY": SOCKS}, ("ALL_PROXY", "socksio")),
            ({"HF_HUB_DOWNLOAD_TIMEOUT": "soon"}, ("HF_HUB_DOWNLOAD_TIMEOUT",)),
            ({"SSL_CERT_FILE": "/none.pem"}, ("SSL_CERT_FILE", "/none.pem")),
            ({"HTTP_PROXY": nobody, "NO_PROXY": ""}, ("cannot be reached", "proxy of HTTP_PROXY")),
        ]:
            done = run(hub.url, clean / "out", **more)
            lines = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
            assert done.returncode == 2 and len(lines) == 1, done.stderr
            assert_facts(lines[0], *facts)
    assert not hub.requests and not (clean / "out").exists()
    done = run(hub.url, clean / "out", HTTP_PROXY=nobody, NO_PROXY="127.0.0.1", HF_HUB_DOWNLOAD_TIMEOUT="20")
    assert done.returncode == 0, done.stderr
    assert contents(clean / "out") == {"grouped_10/train_grouped.h5": grouped_files()[TRAIN_10]}
