"""From a training run to a repository on the hub: the files, and one commit that holds all of them."""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demega_jax import __version__
from demega_jax.config import Config
from demega_jax.config.load import override
from demega_jax.data.hub.models import check_repo_name
from demega_jax.data.hub.refusals import told, understood
from demega_jax.errors import UserError
from demega_jax.interop.card import Card
from demega_jax.interop.card_scores import read_scores
from demega_jax.interop.hub import read_record
from demega_jax.interop.model_card import card_text
from demega_jax.model.parameters import Arrays, model_of
from demega_jax.model.published import CARD, CONFIG, FORMAT, Description, Member, is_member_file, member_file
from demega_jax.reading import read_json
from demega_jax.training.run import RunFolder
from demega_jax.training.stored import read_run

# What says where things lie on the machine that trained, or where its logs go.
PRIVATE = {
    "data.path": None,
    "data.regroup.splits": None,
    "data.regroup.classes_file": None,
    "report.tensorboard": False,
    "report.wandb": False,
}


@dataclasses.dataclass(frozen=True, eq=False)
class Package:
    """What is to be pushed. arrays: of each model, by its file."""

    description: Description
    arrays: dict[str, Arrays]
    card: Card

    def write(self, folder: Path) -> list[str]:
        """Write the files into a folder; returns their names."""
        from safetensors.numpy import save_file

        for name, arrays in self.arrays.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            save_file(arrays, folder / name, metadata={"format": FORMAT})
        (folder / CONFIG).write_text(self.description.model_dump_json(indent=1) + "\n", encoding="utf-8")
        (folder / CARD).write_text(card_text(self.card), encoding="utf-8")
        return [CARD, CONFIG, *self.arrays]


def make_package(
    run: Path, repo: str, *, scores: Sequence[Path] = (), dataset: str | None = None, licence: str | None = None
) -> Package:
    """The files for the hub of a training run, with all its members.

    scores: files of `evaluate --json`; without any, those in the run's report/.  dataset, licence: for the card; None:
    what the run says. UserError: no run, no checkpoint, a checkpoint that does not fit, scores of something else.
    """
    check_repo_name(repo)
    folder = RunFolder(run)
    stored = read_run(run)
    config = stored.config
    arrays: dict[str, Arrays] = {}
    members: list[Member] = []
    for number, (found, meta) in enumerate(zip(stored.arrays, stored.metas, strict=True)):
        model_of(config.model, found, folder.members(config)[number].checkpoints)
        file = member_file(number, config.train.members)
        arrays[file] = found
        members.append(Member(file=file, step=meta["step"], validation=_finite(meta.get("validation"))))
    steps = [member.step for member in members]
    found_scores = tuple(read_scores(folder, scores, config.model.classes or (), steps))
    simulated = meta.get("simulated")
    if simulated is None and any(score.reference is not None for score in found_scores):
        simulated = True  # the best score possible is known of simulated data alone
    description = Description(
        demega_jax=__version__,
        config=public(config).model_dump(mode="json"),
        class_counts=meta["class_counts"],
        members=tuple(members),
        level=meta.get("level"),
        simulated=simulated,
    )
    card = Card(
        repo=repo,
        config=config,
        members=tuple(members),
        parameters=sum(a.size for name, a in found.items() if name.startswith("params.")),
        scores=found_scores,
        trained_level=meta.get("level"),
        simulated=simulated,
        dataset=dataset,
        licence=licence,
        origin=read_record(run, meta.get("hub")),
    )
    return Package(description, arrays, card)


def public(config: Config) -> Config:
    """A configuration without the paths of this machine."""
    return override(config, PRIVATE, "the configuration")


def _finite(validation: Any) -> dict[str, float]:
    return {name: float(value) for name, value in (validation or {}).items() if value is not None}


@dataclasses.dataclass(frozen=True)
class Pushed:
    """What is on the hub now. url: of the commit.  files: their names.  nbytes: of all together."""

    url: str
    commit: str
    files: tuple[str, ...]
    nbytes: int


def push(package: Package, *, private: bool, revision: str | None, message: str | None) -> Pushed:
    """Make the repository where there is none, and send all files in one commit.

    revision: a branch; None: main. Files of members that the repository had and the run has not are removed.
    UserError: the hub cannot be reached or refuses, or the repository holds something else.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()
    repo, branch = package.card.repo, revision or "main"
    api = HfApi(library_name="demega-jax", library_version=__version__)
    with tempfile.TemporaryDirectory() as aside:
        names = package.write(Path(aside))
        nbytes = sum((Path(aside) / name).stat().st_size for name in names)
        with told(repo, branch, kind="model", writing=True), understood(repo, "model"):
            api.create_repo(repo, private=private or None, exist_ok=True)
            there = api.list_repo_files(repo, revision=None)
            if CONFIG in there:
                _check_ours(api, repo)
            elif set(there) - {CARD, ".gitattributes"}:
                raise _foreign(repo, sorted(set(there) - {CARD, ".gitattributes"})[0])
            if revision is not None:
                api.create_branch(repo, branch=revision, exist_ok=True)
                there = api.list_repo_files(repo, revision=revision)
            stale = [name for name in there if is_member_file(name) and name not in names]
            operations: list[CommitOperationAdd | CommitOperationDelete] = []
            operations += [CommitOperationAdd(name, Path(aside) / name) for name in names]
            operations += [CommitOperationDelete(name) for name in stale]
            info = api.create_commit(repo, operations, commit_message=message or _message(package), revision=branch)
    return Pushed(info.commit_url, info.oid, tuple(names), nbytes)


def _message(package: Package) -> str:
    steps = ", ".join(str(member.step) for member in package.description.members)
    return f"DeMEGa of demega-jax {__version__}, step {steps}"


def _check_ours(api: Any, repo: str) -> None:
    """UserError: the config.json of a repository is that of another library."""
    path = api.hf_hub_download(repo, CONFIG)
    try:
        raw = read_json(Path(path))
    except ValueError:
        raw = None
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise _foreign(repo, CONFIG)


def _foreign(repo: str, file: str) -> UserError:
    came = f"it holds {file}, which is not of demega-jax"
    return UserError(repo, came, "a new repository, or one of a demega-jax model", "choose another OWNER/NAME")
