"""`demega-jax pull`: a model of the hub as a run folder."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from demega_jax.api.paths import check_out
from demega_jax.errors import counted
from demega_jax.saying import say

EXAMPLES = """demega-jax pull user/demega-100 runs/pulled

demega-jax pull user/demega-100 runs/pulled --revision v1"""

Repo = Annotated[str, typer.Argument(metavar="REPO", help="OWNER/NAME of a demega-jax model on the hub.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="New folder, which other commands take as a training run.")]
Revision = Annotated[str | None, typer.Option(metavar="REV", help="Branch, tag or commit (default: main).")]


def command(repo: Repo, run: Run, revision: Revision = None) -> int:
    """Pull a model from the hub into a run folder, for `evaluate`, `predict` and `train --init`.

    RUN/hub.json says which commit it is. Without a connection the cache of the hub's client is used.
    """
    from demega_jax.commands.shared.hub import quiet
    from demega_jax.data.hub.models import check_repo_name

    check_repo_name(repo)
    check_out(run)
    quiet()
    from demega_jax.interop.hub import pull

    published = pull(repo, run, revision)
    steps = ", ".join(str(member.step) for member in published.members)
    models = counted(len(published.members), "model")
    say(f"{repo} at {published.commit}: {models}, step {steps}")
    say(f"next  {shlex.join(['demega-jax', 'evaluate', str(run)])} --data DIR")
    return 0
