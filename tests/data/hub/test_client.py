"""`demega-jax download`. Access to the hub, a hub that does not answer, and the server of these tests itself."""

import contextlib
import socket
import time
import urllib.request

import pytest
from helpers.hub import NEW, TRAIN_10, contents, download, fails, grouped_files
from helpers.hub_server import Dataset, serve
from huggingface_hub import constants

from demega_jax.data.hub.download import GROUPED_REPO


@pytest.mark.parametrize("status", [401, 403])
def test_gated(hub, tmp_path, capsys, status):
    hub.datasets[GROUPED_REPO].gate = (status, "GatedRepo")
    page = f"{hub.url}/datasets/{GROUPED_REPO}"
    fails(capsys, [tmp_path, "--level", 10], "gated", status, "accept", page, "hf auth login", "HF_TOKEN")
    assert not list(tmp_path.rglob("*.h5"))


@pytest.mark.parametrize("status", [401, 403])
def test_access_refused(hub, tmp_path, capsys, status):
    hub.datasets[GROUPED_REPO].gate = (status, "")
    fails(capsys, [tmp_path, "--level", 10], status, "hf auth login")


def test_the_token_goes_to_the_hub_alone(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert download(tmp_path, "--level", 10, "--split", "test") == 0
    assert {token for _, token in hub.tokens} == {"Bearer hf_secret"}
    asked = [path for _, path, _ in hub.requests]
    assert [path for path, _ in hub.tokens] == [path for path in asked if not path.startswith("/store/")]
    assert any(path.startswith("/store/") for path in asked)


def test_a_hub_that_is_not_there(hub, tmp_path, capsys, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        fails(capsys, [tmp_path / "out", "--level", 10], "cannot be reached", "network")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    fails(capsys, [tmp_path / "out", "--level", 10], "offline", "HF_HUB_OFFLINE")
    assert not (tmp_path / "out").exists()


def test_a_page_instead_of_the_hub(hub, tmp_path, capsys):
    """What a network answers that wants a log-in first."""
    hub.page = b"<html>Log in</html>"
    fails(capsys, [tmp_path, "--level", 10], "answer", "hub")


def test_too_many_requests_wait_as_long_as_the_hub_asks(hub, tmp_path, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    hub.refusals = [429]
    assert download(tmp_path, "--level", 10, "--split", "train") == 0
    assert max(waits) == 4  # the 3 s that the server names, and the client's one for safety
    assert contents(tmp_path) == {"grouped_10/train_grouped.h5": grouped_files()[TRAIN_10]}


def test_the_server_serves_what_it_lists():
    """The server itself, that no test passes by its mistakes."""
    with serve({"a/b": Dataset({NEW: {"x": bytes(range(200)) * 50}})}) as hub:
        for sent, wanted in ((None, (0, 10_000)), ("bytes=7-11", (7, 12)), ("bytes=9999-", (9999, 10_000))):
            request = urllib.request.Request(f"{hub.url}/datasets/a/b/resolve/{NEW}/x", headers={"Range": sent or ""})
            with contextlib.closing(urllib.request.urlopen(request)) as answer:
                assert answer.read() == (bytes(range(200)) * 50)[slice(*wanted)]
