"""The section `data`, with `data.augment`, `data.regroup`, `data.windows` and `data.pseudo`."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from demega_jax.config.section import (
    Level,
    ListField,
    PathText,
    Positive,
    Section,
    Seed,
    Share,
    Size,
    UpToThousand,
    unfit,
)
from demega_jax.errors import UserError
from demega_jax.files import parse_bytes
from demega_jax.names import MAX_COUNT, MAX_RATE, MAX_SECONDS, MAX_SIZE, PUBLISHED_RATE, PUBLISHED_SENSORS

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Milliseconds = Annotated[float, Field(ge=0.0, le=10_000.0)]
Place = Annotated[int, Field(ge=0, lt=MAX_SIZE)]
Seconds = Annotated[float, Field(ge=-MAX_SECONDS, le=MAX_SECONDS)]


class AugmentConfig(Section):
    """Random changes of training windows, made on the device after normalisation. Each change has a probability of its
    own; 0 switches it off. Evaluation never changes windows."""

    time_shift: Probability = 0.0
    """Probability of a shift in time. The gap is filled with the value at the edge."""
    time_shift_ms: Annotated[tuple[Milliseconds, Milliseconds], ListField] = (8.0, 24.0)
    """Smallest and largest shift, in ms, to the left or to the right."""
    sample_rate: Annotated[float, Field(gt=0.0, le=MAX_RATE)] | None = None
    """Sampling rate of the windows in Hz, which converts time_shift_ms to time points; null: as the data say, or 250
    where they do not."""
    sensor_dropout: Probability = 0.0
    """Probability that some sensors of a window become 0."""
    sensor_dropout_share: Share = 0.1
    """Probability of each sensor of such a window to become 0."""
    noise: Probability = 0.0
    """Probability of added Gaussian noise."""
    noise_scale: Annotated[float, Field(ge=0.0, le=1e6)] = 0.1
    """Standard deviation of the noise, as a share of the standard deviation of the window."""
    time_mask: Probability = 0.0
    """Probability that one stretch of time becomes 0 in all sensors of a window."""
    time_mask_share: Share = 0.1
    """Largest length of the stretch, as a share of the window."""
    sensor_mask: Probability = 0.0
    """Probability that a block of neighbouring sensors becomes 0 in a window."""
    sensor_mask_share: Share = 0.1
    """Largest size of the block, as a share of the sensors."""
    amplitude: Probability = 0.0
    """Probability that amplitudes are multiplied by a random factor, one for each sensor type."""
    amplitude_spread: Share = 0.1
    """Factors are drawn uniformly between 1 - amplitude_spread and 1 + amplitude_spread."""
    magnetometers: Literal["thirds", "none"] | Annotated[tuple[Place, ...], ListField] | None = None
    """Which sensors are magnetometers. thirds: every third, the others are gradiometers; none: sensors are of one type;
    a list: those with these numbers, from 0; null: as the data say, or, where they do not, thirds of 306 sensors."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        low, high = self.time_shift_ms
        if not 0 <= low <= high:
            came, wanted = f"data.augment.time_shift_ms={[low, high]}", "two shifts from 0 on, the smaller one first"
            raise unfit(came, wanted, "set data.augment.time_shift_ms=[8.0, 24.0]")
        return self

    def for_data(self, sensors: int, rate: float | None, magnetometers: Sequence[int] | None) -> "AugmentConfig":
        """This configuration with the values of the data filled in; None: the data do not say them.

        rate: sampling rate in Hz.  magnetometers: their numbers.  UserError: another rate was set, or a sensor that
        there is not.
        """
        if rate is not None and self.sample_rate not in (None, rate):
            way_out = "leave data.augment.sample_rate out, or name other data with --data"
            came = f"the configuration says {self.sample_rate:g} Hz"
            raise UserError("data.augment.sample_rate", came, f"{rate:g} Hz, as in the data", way_out)
        found = self.magnetometers
        if isinstance(found, tuple) and max(found, default=0) >= sensors:
            came, wanted = f"sensor {max(found)}", f"numbers from 0 to {sensors - 1}, as in the data"
            raise UserError("data.augment.magnetometers", came, wanted, "leave data.augment.magnetometers out")
        if found is None and magnetometers is None:
            found = "thirds" if sensors == PUBLISHED_SENSORS else "none"
        elif found is None:
            found = tuple(magnetometers or ()) if len(magnetometers or ()) < sensors else "none"
            found = found or "none"
            found = "thirds" if found == tuple(range(2, sensors, 3)) and sensors % 3 == 0 else found
        update = {"sample_rate": self.sample_rate or rate or PUBLISHED_RATE, "magnetometers": found}
        return self.model_copy(update=update)

    @property
    def active(self) -> bool:
        """Whether any change has a probability above 0."""
        return any((self.time_shift, self.sensor_dropout, self.noise, self.time_mask, self.sensor_mask, self.amplitude))


class RegroupConfig(Section):
    """How groups are made on the device from recordings (data.feed=regroup). A group averages K windows:
    data.level, or one of the levels where that lists several."""

    recordings: Literal["replicated", "dealt"] = "replicated"
    """replicated: every device holds all recordings; dealt: every share holds some stretches of the recordings and
    makes its groups from those alone."""
    new_groups: bool = True
    """true: draw new groups every epoch; false: the same groups every epoch. With one level and replicated recordings
    those are the groups of `group --no-shuffle`."""
    drop_remaining: bool = False
    """true: leave out a class's last group if it has fewer than K windows; with target_rows, in validation alone."""
    target_rows: Positive | None = None
    """Groups of each class in an epoch: K adapts to its windows, up to data.level; null: K is data.level."""
    min_level: Level = 5
    """Smallest K that target_rows may choose, unless a class has fewer windows."""
    overlap: Annotated[float, Field(ge=1.0, le=1000.0)] = 1.0
    """How often target_rows may use a window in an epoch, on average over the windows of its class."""
    tmin: Seconds = 0.0
    """Begin of a window, in seconds after the onset of its event."""
    tmax: Seconds = 0.5
    """End of a window, in seconds after the onset of its event."""
    events: str | None = None
    """Rows of the events that have windows, as for `group --events`, such as kind=word, or all; null: phonemes."""
    label: str | None = None
    """Column of the events with their labels; null: segment."""
    classes_file: PathText | None = None
    """Table with the columns label and class, as for `group --classes-file`; null: each label is a class."""
    top: Annotated[int, Field(ge=2, le=MAX_COUNT)] | None = None
    """Number of the most frequent labels of train that are classes; null: the phonemes, or all labels of other events.
    model.classes goes first."""
    resample: Annotated[float, Field(gt=0.0, le=MAX_RATE)] | None = None
    """Rate in Hz to which recordings are resampled; null: as recorded."""
    splits: PathText | None = None
    """File of splits, as for `group --splits`: a table of session runs, or splits.json; null: the published splits."""


class WindowsConfig(Section):
    """What the windows of training are, which `train` takes from its data. `evaluate` and `predict` refuse windows of
    other events or of another begin, and read recordings in this way."""

    sampling_rate: Annotated[float, Field(gt=0.0, le=MAX_RATE)] | None = None
    """Sampling rate in Hz; null: as the data say, or not known."""
    tmin: Seconds | None = None
    """Begin of a window, in seconds after the onset of its event; null: as the data say, or not known."""
    event_rows: str | None = None
    """Rows of the events that have windows, such as kind=word, or all; null: as the data say, or not known."""
    event_label: str | None = None
    """Column of the events with their labels; null: as the data say, or not known."""
    event_classes: str | None = None
    """Fingerprint of the table of `group --classes-file`; null: there is none, or it is not known."""

    def for_data(self, stated: Mapping[str, object]) -> "WindowsConfig":
        """This configuration with what the data state filled in, by its key. UserError: another value was set."""
        known = {name: stated[name] for name in WindowsConfig.model_fields if name in stated}
        if self.event_rows is not None and "event_rows" in known:
            known.setdefault("event_classes", None)  # these events have no table of classes
        for name, value in known.items():
            mine, is_table = getattr(self, name), name == "event_classes" and self.event_rows is not None
            unknown = mine is None and not is_table
            # A file may keep a number in single precision.
            near = isinstance(mine, float) and isinstance(value, float) and math.isclose(mine, value, rel_tol=1e-6)
            if not (unknown or near or mine == value):
                came = f"the configuration says {mine}"
                way_out = f"give the data that it was made for, or leave data.windows.{name} out of the configuration"
                raise UserError(f"data.windows.{name}", came, f"{value}, as in the data", way_out)
        return self.model_copy(update=known)


class PseudoConfig(Section):
    """Pseudo-labels: windows without labels that are trained on with the classes that a model predicts for them."""

    windows: PathText | None = None
    """File with the windows, such as the holdout: .pt, .npy, .npz or a grouped file; null: none."""
    predictions: PathText | None = None
    """CSV file with their probabilities, of `demega-jax submit` or `demega-jax predict`."""
    threshold: Probability = 0.25
    """Windows whose largest probability is below this are left out."""
    soft: bool = False
    """false: a window has the class of its largest probability, in every loss; true: its probabilities are the target
    of the class loss, and it is left out of the contrastive loss and the IPA loss."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.windows is None) != (self.predictions is None):
            missing = "predictions" if self.predictions is None else "windows"
            came = f"data.pseudo.{missing} is not set, and the other of the two is"
            raise unfit(came, "windows and their predictions", f"set data.pseudo.{missing}, or leave both out")
        return self


class DataConfig(Section):
    """Where windows come from and in which order."""

    path: PathText | None = None
    """Folder that holds grouped_K or data/grouped_K, as files or shards, or recordings. --data sets it."""
    level: Level | Annotated[tuple[Level, ...], ListField] | None = None
    """Grouping level K, or several to train on together, such as [5, 10]; null: the only one there. --level sets it."""
    feed: Literal["stream", "resident", "regroup"] = "stream"
    """stream: the host reads rows from disk or memory and places batches on the devices ahead of the step; resident:
    the devices hold the whole split and draw batches from it; regroup: the devices hold recordings and average windows
    in new groups every epoch."""
    memory: str = "4G"
    """stream: the largest split, in bytes or as 4G or 512M, that is held in memory; others are read from disk."""
    shares: Size = 8
    """resident, regroup: number of shares that the rows are dealt to. A batch takes equally many rows of each share,
    and a device holds whole shares. It must divide train.batch_size and be at least the number of devices. It should be
    a multiple of that: otherwise some places are empty, and give rows of padding."""
    shares_seed: Seed = 0
    """Seed of the dealing of rows or recordings to shares; all members use the same."""
    dtype: Literal["float32", "float16"] = "float32"
    """resident, regroup: type in which the devices hold windows or recordings."""
    sampling: Literal["uniform", "balanced"] = "uniform"
    """uniform: each row once in an epoch; balanced: rows are drawn with replacement, and every class equally likely."""
    prefetch: UpToThousand = 2
    """stream: number of batches to prefetch, that is, to place on the devices ahead of the step."""
    augment: AugmentConfig = AugmentConfig()
    regroup: RegroupConfig = RegroupConfig()
    windows: WindowsConfig = WindowsConfig()
    pseudo: PseudoConfig = PseudoConfig()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        try:
            parse_bytes(self.memory)
        except ValueError as error:
            raise unfit(f"data.memory: {error}", "a size such as 4G, 512M or 1.5G", "set data.memory=4G") from None
        levels = self.level
        if isinstance(levels, tuple) and (len(levels) < 2 or len(set(levels)) < len(levels)):
            came, wanted = f"data.level={list(levels)}", "one level, or a list of different levels"
            raise unfit(came, wanted, "write for example data.level=5 or data.level=[5, 10]")
        if self.regroup.target_rows is None and (self.regroup.overlap, self.regroup.min_level) != (1.0, 5):
            came = "data.regroup.overlap or data.regroup.min_level is set, but not data.regroup.target_rows"
            raise unfit(came, "target_rows beside them", "set data.regroup.target_rows too, or leave both out")
        if self.pseudo.windows is not None and self.feed == "regroup":
            came = "data.pseudo is set, and data.feed is regroup, which makes its own groups"
            raise unfit(came, "data.feed=stream or resident", "set data.feed=stream, or leave data.pseudo out")
        if self.regroup.target_rows is not None and isinstance(levels, tuple):
            came = f"data.regroup.target_rows is set beside data.level={list(levels)}"
            raise unfit(came, "one level", f"set data.level={max(levels)}, or leave data.regroup.target_rows out")
        return self

    @property
    def levels(self) -> tuple[int, ...]:
        """The grouping levels; empty where the data decide."""
        if self.level is None:
            return ()
        return self.level if isinstance(self.level, tuple) else (self.level,)
