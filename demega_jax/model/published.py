"""Models as files that others can load: config.json, and the arrays of each model as safetensors.

config.json                     the configuration, the number of rows of each class in training, the members
model.safetensors               of a single model
members/0/model.safetensors ..  of models that are averaged
README.md                       the model card
"""

import dataclasses
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from demega_jax.config import Config
from demega_jax.config.load import validated
from demega_jax.data.hub.models import fetch_model, is_repo_name
from demega_jax.errors import NEWER, UserError
from demega_jax.model.demega import DeMEGa
from demega_jax.model.parameters import Arrays, model_of
from demega_jax.reading import read_json

CONFIG, CARD = "config.json", "README.md"
FORMAT, VERSION = "demega-jax model", 1
PATTERNS = (CONFIG, "model.safetensors", "members/*/model.safetensors")
# No other names, so that no file from outside can name a place outside the folder.
FILE = r"^(members/[0-9]+/)?model\.safetensors$"


def member_file(number: int, members: int) -> str:
    """The name of the file with the arrays of a model, one of `members`."""
    return "model.safetensors" if members == 1 else f"members/{number}/model.safetensors"


def is_member_file(name: str) -> bool:
    """Whether a file has such a name."""
    return re.match(FILE, name) is not None


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Member(_Entry):
    """A model. file: its arrays.  step: of its checkpoint.  validation: the scores of training at that step."""

    file: str = Field(pattern=FILE)
    step: int = Field(ge=0)
    validation: dict[str, float] = Field(default_factory=dict)


class Description(_Entry):
    """The content of config.json.

    config: of the training run, without the paths of the machine that it ran on.  class_counts [V]: rows of each class
    in training.  level, simulated: of the training rows; None where unknown.
    """

    format: Literal["demega-jax model"] = "demega-jax model"
    version: int = VERSION
    library_name: Literal["demega-jax"] = "demega-jax"
    demega_jax: str
    config: dict[str, Any]
    class_counts: tuple[int, ...]
    members: tuple[Member, ...] = Field(min_length=1)
    level: int | None = None
    simulated: bool | None = None


@dataclasses.dataclass(frozen=True)
class Published:
    """A published model in a folder. name: its repository, or the folder.  commit: on the hub; None for a folder."""

    name: str
    folder: Path
    commit: str | None
    description: Description
    config: Config

    @property
    def members(self) -> tuple[Member, ...]:
        """The models, one or several."""
        return self.description.members

    def arrays(self, number: int) -> Arrays:
        """The arrays of a model by dotted path. UserError: the file is missing or damaged."""
        import safetensors
        from safetensors.numpy import load_file

        path = self.folder / self.members[number].file
        try:
            return load_file(path)
        except (OSError, safetensors.SafetensorError, KeyError, ValueError) as error:
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            came = "no such file" if not path.exists() else f"it cannot be read ({reason})"
            raise self._refused(self.members[number].file, came, "the arrays of a model as safetensors") from None

    def model(self, number: int = 0) -> DeMEGa:
        """A model. UserError: there is no such member, or its arrays do not fit the configuration."""
        if not 0 <= number < len(self.members):
            wanted = f"a member from 0 to {len(self.members) - 1}"
            raise UserError(self.name, f"no member {number}", wanted, "leave `member` out for the first one")
        return model_of(self.config.model, self.arrays(number), f"{self.name}: {self.members[number].file}")

    def _refused(self, file: str, came: str, wanted: str) -> UserError:
        return UserError(f"{self.name}: {file}", came, wanted, "fetch another --revision, or tell the model's owner")


def is_published(folder: Path) -> bool:
    """Whether a folder holds the files of a published model."""
    return (folder / CONFIG).is_file()


def check_no_revision(folder: Path, revision: str | None) -> None:
    """UserError: a revision is asked for, of a folder of this machine."""
    if revision is not None:
        came = f"revision {revision} is asked for, and {folder} is a folder of this machine"
        raise UserError("revision", came, "a revision of a model on the hub", "leave the revision out")


def open_published(source: str | Path, revision: str | None = None) -> Published:
    """A published model: a folder of this machine, or else OWNER/NAME on the hub.

    revision: branch, tag or commit on the hub; None: main. UserError: there is none, it is no model of this library,
    or its format is newer.
    """
    folder, name = Path(source), str(source)
    if folder.is_dir():
        check_no_revision(folder, revision)
        return _read(folder, name, None)
    if not is_repo_name(name):
        came = "no such folder, and not the name of a model on the hub"
        raise UserError(name, came, "a folder, or OWNER/NAME of a model on the hub", "correct the name")
    return open_on_hub(name, revision)


def open_on_hub(repo: str, revision: str | None = None) -> Published:
    """`open_published` for a repository on the hub."""
    folder, commit = fetch_model(repo, revision, PATTERNS)
    return _read(folder, repo, commit)


def _read(folder: Path, name: str, commit: str | None) -> Published:
    where = f"{name}: {CONFIG}"
    foreign = UserError(name, "no model of demega-jax", f"a {CONFIG} of format {FORMAT!r}", "name another model")
    try:
        raw = read_json(folder / CONFIG)
    except (OSError, ValueError):
        raise foreign from None
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise foreign
    version = raw.get("version")
    if isinstance(version, int) and version > VERSION:
        raise UserError(where, f"format {version}", f"format {VERSION} or older", NEWER)
    try:
        description = Description.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        came = f"damaged: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise UserError(where, came, "a description of a model", "fetch another --revision") from None
    config = validated(description.config, where)
    model = config.model
    if None in (model.sensors, model.time_points, model.classes):
        came = "damaged: sensors, time points or classes are not set"
        raise UserError(where, came, "the configuration of a trained model", "fetch another --revision")
    classes = len(model.classes or ())
    if len(description.class_counts) != classes or len(description.members) != config.train.members:
        came = (
            f"damaged: {len(description.class_counts)} counts of classes and {len(description.members)} models, but "
            f"{classes} classes and train.members={config.train.members}"
        )
        raise UserError(where, came, "numbers that agree", "fetch another --revision")
    return Published(name, folder, commit, description, config)
