"""The windows that a training run has seen, as its configuration states them: compared with other data, and looked for
in recordings."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from demega_jax.config import DataConfig, WindowsConfig
from demega_jax.config.data import RegroupConfig
from demega_jax.data.acquisition import EVENTS, Acquisition, check_same_acquisition, same_number
from demega_jax.data.split import LabelledRows, WindowShape
from demega_jax.errors import UserError, listed, warn
from demega_jax.phonemes import PHONEMES

GROUP_ALIKE = "make them with the options of its training data: `demega-jax group RECORDINGS OUT --events ..`"


def check_windows(found: LabelledRows, config: DataConfig) -> None:
    """UserError: windows follow other events, or begin elsewhere, than those of training, as far as both are known.

    Warns of another sampling rate.
    """
    check_same_acquisition(found.path, found.acquisition, _trained_on(config), "the data of the training run")
    came, trained = found.acquisition.sampling_rate, config.augment.sample_rate
    if came is not None and trained is not None and not same_number(came, trained):
        warn(f"{found.path}: windows at {came:g} Hz, for a model that was trained on windows at {trained:g} Hz")


def as_trained(
    folder: Path, config: DataConfig, classes: Sequence[str] | None, shape: WindowShape | None
) -> DataConfig:
    """The configuration with which recordings are read for a training run: where that was on grouped files, with their
    events, begin, length and rate, as far as they are known and the configuration states no others.

    shape: of the windows of training.  UserError: the classes come from a table that the run does not hold, or are not
    phonemes and of unknown events. Warns where events are not known.
    """
    if config.feed == "regroup":
        return config
    groups, known, usual = config.regroup, config.windows, RegroupConfig()
    read: dict[str, object] = {}
    if (groups.events, groups.label, groups.classes_file) == (None, None, None):
        if known.event_classes is not None:
            came = f"recordings, for a model whose classes are those of a table ({known.event_classes})"
            raise UserError(folder, came, "grouped files of the same events and classes", GROUP_ALIKE)
        if known.event_rows is None:
            _check_events_known(folder, classes)
        read |= {"events": known.event_rows, "label": known.event_label}
    if known.tmin is not None and (groups.tmin, groups.tmax) == (usual.tmin, usual.tmax):
        rate, points = known.sampling_rate or config.augment.sample_rate, None if shape is None else shape[1]
        seconds = points / rate if points and rate else usual.tmax - usual.tmin
        read |= {"tmin": known.tmin, "tmax": known.tmin + seconds}
    if groups.resample is None:
        read["resample"] = known.sampling_rate
    return config.model_copy(update={"regroup": groups.model_copy(update=read)})


def _check_events_known(folder: Path, classes: Sequence[str] | None) -> None:
    """UserError: a model that was trained on grouped files has classes that are no phonemes. Files of earlier versions,
    and of others, do not say of what events their windows are, and those of recordings are taken at phonemes. Warns
    where that may be wrong."""
    if classes is None:
        return
    other = [name for name in classes if name not in PHONEMES]
    if other:
        came = f"recordings, for a model of grouped files with classes that are no phonemes ({listed(other, 3)})"
        raise UserError(folder, came, "grouped files of the same events", GROUP_ALIKE)
    if len(classes) < len(PHONEMES):
        what = f"the grouped files of these {len(classes)} classes may have windows of other events"
        warn(f"{folder}: the windows of recordings are those of phonemes, and {what}")


def trained_together(runs: Sequence[tuple[str, DataConfig]]) -> WindowsConfig:
    """What is known of the windows of training runs that are asked about the same rows, from any of them.

    runs: the name and the configuration of each.  UserError: two were trained on windows of other events, or that begin
    elsewhere.
    """
    for (other, wanted), (name, config) in itertools.combinations(runs, 2):
        check_same_acquisition(name, _trained_on(config), _trained_on(wanted), other)
    known: dict[str, object] = {}
    for _, config in runs:
        known |= {key: value for key, value in config.windows if value is not None and key not in known}
    return WindowsConfig.model_validate(known)


def _trained_on(config: DataConfig) -> Acquisition:
    """The events and the begin of the windows of training, as far as they are known."""
    return Acquisition(**{name: getattr(config.windows, name) for name in ("tmin", *EVENTS)})
