"""Names and constants that several rooms share. Only typing is imported, so that the command line starts quickly."""

from typing import Literal, get_args

SPLITS = ("train", "validation", "test")
FEEDS = ("stream", "resident", "regroup")  # of `data.feed`
Target = Literal["h200", "h100", "a100", "rtx4090", "v5e", "v6e"]  # devices that programs are compiled for
TARGETS: tuple[str, ...] = get_args(Target)
PRECISIONS = ("float32", "bfloat16")  # of `model.dtype`

# Normalisations of windows: for `model.input_norm`, and for `shard --norm`, where raw leaves windows unchanged.
Norm = Literal["median_iqr", "instance", "zscore", "none"]
ShardNorm = Literal[Norm, "raw"]
IQR_EPSILON = 1e-6  # added to an interquartile range, as the published system does (model.md section 1)
VARIANCE_EPSILON = 1e-5  # added to a variance before its root is taken
PICTURES = ("png", "svg", "pdf")
