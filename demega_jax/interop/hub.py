"""Models on the hub: load one, and pull one into a run folder. `hub_push.py` is the other way."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from demega_jax.data.hub.models import check_repo_name, is_repo_name
from demega_jax.errors import UserError
from demega_jax.evaluation.model import Model
from demega_jax.evaluation.model import load as load_run
from demega_jax.files import expanded
from demega_jax.interop.run_writer import Trained, check_free, write_run
from demega_jax.model.parameters import split_model
from demega_jax.model.published import Published, check_no_revision, is_published, open_on_hub, open_published
from demega_jax.reading import read_json
from demega_jax.training.members import stack
from demega_jax.training.program_cache import keep_programs

RECORD = "hub.json"


def load(run_or_repo: str | Path, revision: str | None = None) -> Model:
    """The model of a run folder, or else of a repository on the hub (OWNER/NAME), with all its members.

    A folder of this machine goes first. revision: branch, tag or commit on the hub; None: main. What was fetched once
    is read from the cache of the hub's client where there is no connection. The `name` of a model from the hub ends
    with its commit, which is a revision too. UserError: there is no such model, or its files do not fit together.
    """
    path = Path(expanded(str(run_or_repo)))
    if path.is_dir() or not is_repo_name(str(run_or_repo)):
        published = path.is_dir() and is_published(path)
        if not published:
            check_no_revision(path, revision)
        return model_of(open_published(path, revision)) if published else load_run(path)
    try:
        return model_of(open_on_hub(str(run_or_repo), revision))
    except UserError as error:
        came = f"there is no folder of this name, and on the hub: {error.came}"
        raise UserError(error.where, came, error.wanted, error.way_out) from None


def model_of(published: Published) -> Model:
    """A published model with all its members, for use."""
    keep_programs()
    parts = [split_model(published.model(number)) for number in range(len(published.members))]
    tree = stack([{"params": params, "buffers": buffers} for _, params, buffers in parts])
    name = published.name if published.commit is None else f"{published.name}@{published.commit[:12]}"
    steps = tuple(member.step for member in published.members)
    counts = np.asarray(published.description.class_counts)
    return Model(name, published.config, parts[0][0], tree["params"], tree["buffers"], steps, counts)


def pull(repo: str, run: Path, revision: str | None = None) -> Published:
    """Write a run folder with the models of a repository on the hub, as `evaluate` and `train --init` read it.

    Its hub.json says which commit it is. UserError: `run` is not free, or as for `load`; then nothing is written.
    """
    check_repo_name(repo)
    check_free(run)
    published = open_on_hub(repo, revision)
    description = published.description
    models = []
    for number, member in enumerate(published.members):
        _, params, buffers = split_model(published.model(number))
        models.append(Trained(params, buffers, member.step, member.validation))
    record = {"repo": repo, "commit": published.commit, "revision": revision or "main"}
    meta = {"class_counts": list(description.class_counts), "level": description.level, "hub": record}
    meta["simulated"] = description.simulated
    write_run(run, published.config, models, meta, {RECORD: json.dumps(record, indent=1) + "\n"})
    return published


def read_record(run: Path, known: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """The (repository, commit) that a run folder was pulled from; None where it was trained here.

    known: what its checkpoint says of it; None: nothing.  UserError: hub.json is damaged, or says something else.
    """
    path = run / RECORD
    if not path.is_file():
        return None if known is None else (str(known["repo"]), str(known["commit"]))
    try:
        raw = read_json(path)
        found = str(raw["repo"]), str(raw["commit"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(path, "damaged", "the repository and commit of a pulled run", "pull it again") from None
    if raw != known:
        came, wanted = f"it says {json.dumps(raw)}", f"{json.dumps(known)}, as in the checkpoint"
        raise UserError(path, came, wanted, "pull the model again")
    return found
