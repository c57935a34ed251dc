"""Whether the Hugging Face hub answers, asked as `download` asks it."""

import dataclasses
import os
import threading
from collections.abc import Iterator

from demega_jax.benchmark.doctor.finding import Finding, of_error
from demega_jax.errors import UserError

SECONDS = 5.0
TRUE = ("1", "ON", "YES", "TRUE")  # what the hub's client takes for yes


def check_hub(repo: str, *, offline: bool) -> Iterator[Finding]:
    """Ask which commit a dataset is at. That the hub does not answer is a warning: training does not need it."""
    if offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in TRUE:
        yield Finding("hub", "note", f"not asked, by {'--offline' if offline else 'HF_HUB_OFFLINE'}")
        return
    said: list[Finding] = []
    asking = threading.Thread(target=lambda: said.append(_asked(repo)), daemon=True)
    asking.start()
    asking.join(2 * SECONDS)  # the system may look for a name far longer than any timeout of the client
    late = Finding("hub", "warning", f"no answer within {2 * SECONDS:.0f} s", "Check the network and the proxy.")
    yield said[0] if said else late


def _asked(repo: str) -> Finding:
    from demega_jax.data.hub.client import resolve_revision
    from demega_jax.data.hub.refusals import AGAIN

    try:
        commit = resolve_revision(repo, "main", timeout=SECONDS)
    except UserError as error:
        found = of_error("hub", error, "warning")
        return dataclasses.replace(found, way_out=found.way_out.replace(f", then {AGAIN}", ""))
    return Finding("hub", "ok", f"it answers: {repo} is at {commit[:12]}")
