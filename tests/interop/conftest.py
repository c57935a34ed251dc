"""A hub on the loopback interface that takes models, an empty cache of its client, and runs to push."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import SMALL
from helpers.hub_server import Hub, serve
from helpers.runs import train
from huggingface_hub import constants

from demega_jax.data.simulate.grouped import simulate_grouped


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[Hub]:
    with serve({}) as hub:
        # What a user sets by HF_ENDPOINT and HF_HUB_CACHE, which the client reads but once.
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # its protocol is not that of this hub
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        yield hub


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    simulate_grouped(folder, levels=[100], groups=125, sensors=5, time_points=9, seed=1)
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    """A run whose parameters are averaged, as those are what is pushed."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert train(data, folder, *SMALL, "train.averaging=ema") == 0
    return folder


@pytest.fixture(scope="module")
def members(data, tmp_path_factory) -> Path:
    """A run with two members."""
    folder = tmp_path_factory.mktemp("runs") / "members"
    assert train(data, folder, *SMALL, "train.members=2", "data.feed=resident") == 0
    return folder
