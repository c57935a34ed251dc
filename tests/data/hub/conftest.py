"""A hub on the loopback interface, asked by the hub's real client."""

from collections.abc import Iterator

import pytest
from helpers.hub import NEW, grouped_files, recording_files
from helpers.hub_server import Dataset, Hub, serve
from huggingface_hub import constants

from demega_jax.data.hub import transfer
from demega_jax.data.hub.download import GROUPED_REPO, RECORDINGS_MIRROR, RECORDINGS_REPO


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[Hub]:
    datasets = {
        GROUPED_REPO: Dataset({NEW: grouped_files()}),
        RECORDINGS_REPO: Dataset({NEW: recording_files()}),
        RECORDINGS_MIRROR: Dataset({NEW: {}}),
    }
    with serve(datasets) as hub:
        # What a user sets by HF_ENDPOINT, which the client reads but once.
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        monkeypatch.setattr(transfer, "WAITS", (0.01, 0.01))
        yield hub
