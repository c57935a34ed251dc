"""`demega-jax push`: a training run as a model on the hub."""

from pathlib import Path
from typing import Annotated

import typer

from demega_jax.api.paths import check_there
from demega_jax.saying import say

EXAMPLES = """demega-jax push runs/first user/demega-100 --private

demega-jax push runs/first user/demega-100 --scores test.json --dry-run"""

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a training run; all its members are pushed.")]
Repo = Annotated[str, typer.Argument(metavar="REPO", help="OWNER/NAME on the hub; it is made if there is none.")]
ScoreFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--scores",
        metavar="FILE,..",
        help="Scores for the model card, as `evaluate --json` writes them (default: the JSON files in RUN/report).",
    ),
]
Private = Annotated[bool, typer.Option("--private", help="Make a new repository private.")]
Branch = Annotated[str | None, typer.Option("--revision", metavar="BRANCH", help="Branch (default: main).")]
Message = Annotated[str | None, typer.Option(metavar="TEXT", help="Message of the commit (default: version and step).")]
Dataset = Annotated[
    str | None,
    typer.Option(
        metavar="OWNER/NAME",
        help="Dataset on the hub that the model was trained on, for the card (default: what the run knows).",
    ),
]
Licence = Annotated[
    str | None,
    typer.Option(
        "--license",
        metavar="NAME",
        help="Licence of the parameters, as the hub names it (default: cc-by-nc-4.0; apache-2.0 for simulated data).",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the model card; send nothing.")]


def command(
    run: Run,
    repo: Repo,
    scores: ScoreFiles = None,
    private: Private = False,
    revision: Branch = None,
    message: Message = None,
    dataset: Dataset = None,
    license_: Licence = None,
    dry_run: DryRun = False,
) -> int:
    """Push a training run to the hub: parameters, configuration and a model card with its scores."""
    check_there(run, "the folder of a training run", folder=True)
    for path in scores or ():
        check_there(path, "the JSON of `demega-jax evaluate`", folder=False)
    from demega_jax.commands.shared.hub import quiet
    from demega_jax.data.hub.models import check_repo_name
    from demega_jax.errors import without_secrets
    from demega_jax.files import format_bytes
    from demega_jax.training.run import RunFolder

    check_repo_name(repo)
    RunFolder(run).read_config()
    from demega_jax.interop.hub_push import make_package, push
    from demega_jax.interop.model_card import card_text

    quiet()
    package = make_package(run, repo, scores=scores or (), dataset=dataset, licence=license_)
    if dry_run:
        print(card_text(package.card), end="")
        return 0
    pushed = push(package, private=private, revision=revision, message=message)
    say(f"{repo}: {', '.join(pushed.files)}, {format_bytes(pushed.nbytes)}")
    say(f"commit {pushed.commit}: {without_secrets(pushed.url)}")
    return 0
