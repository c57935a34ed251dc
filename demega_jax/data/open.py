"""Opens splits and feed plans, given a data folder and a configuration.

Only this file asks whether a folder holds grouped files, shards or recordings, and which feed is wanted.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demega_jax.config import Config, DataConfig
from demega_jax.config.data import RegroupConfig
from demega_jax.data.acquisition import check_same_acquisition
from demega_jax.data.arrays import SUFFIXES, open_array
from demega_jax.data.combined import combine
from demega_jax.data.feeds.feed import FeedPlan
from demega_jax.data.feeds.regroup_plan import RegroupPlan
from demega_jax.data.feeds.regroup_tables import make_tables
from demega_jax.data.feeds.resident import ResidentPlan
from demega_jax.data.feeds.stream import StreamPlan
from demega_jax.data.folder import data_folder, find_level, find_split, is_recorded
from demega_jax.data.grouped import open_grouped
from demega_jax.data.pseudo import with_pseudo_labels
from demega_jax.data.recordings.chapters import warn_of_shared
from demega_jax.data.recordings.tree import RecordingTree, open_recordings
from demega_jax.data.shards.reader import is_sharded, open_shards
from demega_jax.data.split import LabelledRows, Split, WindowShape
from demega_jax.data.trained import as_trained, check_windows
from demega_jax.errors import UserError
from demega_jax.files import expanded, parse_bytes


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingData:
    """What training reads: the plan of its feed, and the validation split. It never reads the test split."""

    plan: FeedPlan
    validation: Split

    @property
    def train(self) -> LabelledRows:
        """The rows of an epoch."""
        return self.plan.rows


def open_split(
    folder: Path,
    split: str,
    config: DataConfig,
    *,
    classes: Sequence[str] | None = None,
    expect_shape: WindowShape | None = None,
) -> Split:
    """A split to evaluate on. Recordings are averaged at the levels of `config`, and read as training read its data.

    UserError: also for windows of other events than those of training, or that begin elsewhere.
    classes, expect_shape: as for `open_levels`.
    """
    if is_recorded(folder, config.feed):
        config = as_trained(folder, config, classes, expect_shape)
        found: Split = open_recordings(folder, config).averages(split, classes, expect_shape)
    else:
        found = open_levels(folder, config.level, split, classes=classes, expect_shape=expect_shape)
    check_windows(found, config)
    return found


def open_input(
    path: Path, split: str, config: DataConfig, *, classes: Sequence[str], expect_shape: WindowShape
) -> Split:
    """The rows of a path to predict: a split of a data folder, a grouped file, or a .npy, .npz or .pt file.

    Rows of arrays can be without labels. UserError: there is no such path, or it does not fit what was trained on.
    """
    if path.is_dir():
        return open_split(path, split, config, classes=classes, expect_shape=expect_shape)
    if path.suffix in SUFFIXES:
        return open_array(path, classes, expect_shape)
    found = open_grouped(path, classes=classes, expect_shape=expect_shape)
    check_windows(found, config)
    return found


def open_training(config: Config) -> TrainingData:
    """Open the data that training reads. UserError: there are none, or they do not fit the feed."""
    folder = data_folder(config.data.path)
    if config.data.feed == "regroup":
        tree = open_recordings(folder, config.data)
        warn_of_shared(tree.runs)  # here, so that `evaluate` and `predict` do not say it again
        plan = plan_regroup(config, tree)
        return TrainingData(plan, tree.averages("validation", plan.rows.classes))
    if is_recorded(folder, config.data.feed):
        came = f"a recording tree, with data.feed={config.data.feed}"
        way_out = "set data.feed=regroup, or average the recordings first with `demega-jax group`"
        raise UserError(folder, came, "a folder that holds grouped_K", way_out)
    _check_regroup_alone(config.data)
    levels = config.data.level
    train = open_levels(folder, levels, "train", classes=config.model.classes)
    validation = open_levels(folder, levels, "validation", classes=train.classes, expect_shape=train.window)
    check_same_acquisition(validation.path, validation.acquisition, train.acquisition, train.path)
    if config.data.pseudo.windows is not None:
        train = with_pseudo_labels(train, config.data)
    return TrainingData(plan_rows(config, train), validation)


def _check_regroup_alone(data: DataConfig) -> None:
    """UserError: a key of data.regroup is set, which this feed would never read."""
    usual = RegroupConfig()
    changed = [name for name in RegroupConfig.model_fields if getattr(data.regroup, name) != getattr(usual, name)]
    if changed:
        key = f"data.regroup.{changed[0]}"
        came = f"{getattr(data.regroup, changed[0])}, and data.feed is {data.feed}, which makes no groups of its own"
        raise UserError(key, came, "data.feed=regroup beside it", f"set data.feed=regroup, or leave {key} out")


def plan_rows(config: Config, split: Split) -> StreamPlan | ResidentPlan:
    """The plan of the feed `data.feed` (stream or resident) for the rows of a split."""
    data, train = config.data, config.train
    if data.feed == "resident":
        norm = config.model.input_norm
        normalize = None if norm == "none" or split.normalization is not None else norm
        return ResidentPlan(rows=split, normalize=normalize, **_on_devices(config))
    return StreamPlan(split, train.batch_size, train.seed, data.sampling, parse_bytes(data.memory), data.prefetch)


def plan_regroup(config: Config, tree: RecordingTree) -> RegroupPlan:
    """The plan of the regroup feed for the session runs of train. UserError: there is no level, or no window."""
    data = config.data
    windows = tree.windows("train", config.model.classes)
    tables = make_tables(windows, tree.levels, data.regroup, data.shares, data.shares_seed)
    groups, common = tree.labelled("train", windows, tables.labels()), _on_devices(config)
    statistics, regroup = tree.statistics, data.regroup
    return RegroupPlan(rows=groups, windows=windows, tables=tables, statistics=statistics, regroup=regroup, **common)


def _on_devices(config: Config) -> dict[str, Any]:
    """The arguments that every `DevicePlan` takes from a configuration."""
    data, train = config.data, config.train
    return {
        "batch_size": train.batch_size,
        "seeds": tuple(range(train.seed, train.seed + train.members)),
        "sampling": data.sampling,
        "shares": data.shares,
        "shares_seed": data.shares_seed,
        "dtype": data.dtype,
        "steps_per_dispatch": train.steps_per_dispatch,
    }


def open_levels(
    data: Path,
    levels: int | Sequence[int] | None,
    split: str,
    *,
    classes: Sequence[str] | None = None,
    expect_shape: WindowShape | None = None,
) -> Split:
    """A split of one level (None: the only one there), or of several levels as one split; grouped files or shards.

    classes, expect_shape: as for `open_grouped`. If they are not given, all levels must agree with the first.
    """
    data = Path(expanded(str(data)))
    if levels is None or isinstance(levels, int):
        return _open_level(data, levels, split, classes, expect_shape)
    parts: list[Split] = []
    for level in levels:
        parts.append(_open_level(data, level, split, classes, expect_shape))
        classes, expect_shape = parts[0].classes, parts[0].window
        for earlier in parts[:-1]:
            check_same_acquisition(parts[-1].path, parts[-1].acquisition, earlier.acquisition, earlier.path)
    return combine(parts, data)


def _open_level(
    data: Path, level: int | None, split: str, classes: Sequence[str] | None, expect_shape: WindowShape | None
) -> Split:
    folder = find_level(data, level)
    if is_sharded(folder):
        return open_shards(folder, split, classes=classes, expect_shape=expect_shape)
    return open_grouped(find_split(data, level, split), classes=classes, expect_shape=expect_shape)
