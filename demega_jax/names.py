"""Names and constants that several rooms share. Only typing is imported, so that the command line starts quickly."""

from collections.abc import Sequence
from typing import Literal, get_args

SPLITS = ("train", "validation", "test")
FEEDS = ("stream", "resident", "regroup")  # of `data.feed`
Target = Literal["h200", "h100", "a100", "rtx4090", "rtx4080", "v5e", "v6e"]  # devices that programs are compiled for
TARGETS: tuple[str, ...] = get_args(Target)
# Scores of validation that `train.monitor` may name, and how they are called in words.
Monitor = Literal["macro_f1", "balanced_accuracy", "balanced_accuracy_at_10", "loss"]
SCORE_NAMES: dict[Monitor, str] = {
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
    "balanced_accuracy_at_10": "balanced accuracy at 10",
    "loss": "loss",
}
PRECISIONS = ("float32", "bfloat16")  # of `model.dtype`

# Normalisations of windows: for `model.input_norm`, and for `shard --norm`, where raw leaves windows unchanged.
Norm = Literal["median_iqr", "instance", "zscore", "none"]
ShardNorm = Literal[Norm, "raw"]
IQR_EPSILON = 1e-6  # added to an interquartile range, as the published system does (model.md section 1)
VARIANCE_EPSILON = 1e-5  # added to a variance before its root is taken
PICTURES = ("png", "svg", "pdf")

# The largest numbers that keys and options take. A mistyped number is refused by them before memory is asked for.
MAX_COUNT = 999_999_999  # rows, groups, steps, epochs: with all that is computed from them they stay below 2^63
MAX_STEPS = 2**31 - 1  # of a training run or a schedule: steps are counted in int32
MAX_LEVEL = 999_999
MAX_SIZE = 65_536  # sensors, time points, distances and kernels in time points
MAX_WIDTH = 16_384
MAX_PARAMETERS = 10**9  # of one model
MAX_BATCH = 2**20
MAX_DEVICES = 65_536
MAX_CPU_DEVICES = 256  # virtual ones: each has threads of its own
MAX_SEED = 2**32 - 1
PUBLISHED_RATE = 250.0  # Hz, of the published windows, whose files do not say it
PUBLISHED_SENSORS = 306  # of the Elekta Neuromag system, in triplets (gradiometer, gradiometer, magnetometer)
MAX_RATE = 1e6  # Hz, of sampling
MAX_SECONDS = 3600.0  # from the onset of a phoneme to the begin or end of its window
MAX_GROUPS = 99_999_999  # of a simulated file
MAX_SIMULATED = 4096  # sensors or time points of simulated windows, whose covariance is a square of them
MAX_MINUTES = 100_000.0  # of simulated recordings

# Forms of the apostrophe, and what people type in its place: in a name they are all the same one.
APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\u00b4`", "'"))


def straight(name: str) -> str:
    """A name with straight apostrophes, as which names from outside are compared."""
    return name.translate(APOSTROPHES)


def same_names(some: Sequence[str], others: Sequence[str]) -> bool:
    """Whether names are the same in the same order, whatever the form of their apostrophes."""
    return [*map(straight, some)] == [*map(straight, others)]


def all_different(names: Sequence[str]) -> bool:
    """Whether no two names are the same, whatever the form of their apostrophes."""
    return len({straight(name) for name in names}) == len(names)


# This order is fixed: in a grouped file without class names, a label is a position in this tuple.
PHONEMES = tuple(
    "aa ae ah ao aw ay b ch d dh eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh t th uh uw v w y z zh".split()
)
