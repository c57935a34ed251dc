"""The meta of a checkpoint: what is known of it beside its arrays, sealed so that damage is found and named by key."""

import json
from collections.abc import Mapping
from typing import Any

from demega_jax.config import Config
from demega_jax.config.load import flat_keys
from demega_jax.errors import UserError, listed
from demega_jax.files import SEAL, check_sealed, fingerprint
from demega_jax.training.run import RunFolder, free_to_change

Meta = dict[str, Any]  # what is known of a checkpoint beside its arrays, as JSON holds it

# The keys of a meta that was written before metas were sealed. `None`: any value.
UNSEALED: Mapping[str, type | tuple[type, ...] | None] = {
    "format": int,
    "step": int,
    "checksums": dict,
    "versions": dict,
    "config": dict,
    "standing": dict,
    "class_counts": list,
    "feed": dict,
    "since_last_line": dict,
    "epoch": (int, float),
    "hub": dict,
    "validation": None,
    "level": None,
    "simulated": None,
}
STANDING = {"best_macro_f1", "best_step", "stale"}


class Damaged(Exception):
    """A checkpoint that cannot be read as a whole; the message says what is wrong."""


def check_step(meta: Meta, step: int) -> None:
    """Damaged: the meta is of another step than its folder says."""
    if meta["step"] != step:
        raise Damaged(f"step is {meta['step']} in its meta, and {step} in the name of its folder")


def check_sealed_format(meta: Meta) -> None:
    """Damaged: the number of the format is not what was written, so that it does not tell of a newer version.

    The other keys are those of this version, and can be checked, only if the format is.
    """
    seal = meta.get(SEAL)
    if isinstance(seal, dict) and seal.get("format", fingerprint(meta["format"])) != fingerprint(meta["format"]):
        raise Damaged("in its meta format is not what was written")


def check_seal(meta: Meta) -> None:
    """Damaged: a key is not what was written. Of a meta without a seal, only names and types of the keys are known."""
    if SEAL not in meta:
        _check_unsealed(meta)
        return
    try:
        check_sealed(meta)
    except ValueError as error:
        raise Damaged(f"in its meta {error}") from None


def _check_unsealed(meta: Meta) -> None:
    """Damaged: a key that the earlier form does not have, or a value of another type."""
    for key, value in meta.items():
        if key not in UNSEALED:
            raise Damaged(f"its meta has the unknown key {key}")
        kind = UNSEALED[key]
        if kind is not None and not isinstance(value, kind):
            raise Damaged(f"{key} in its meta is {str(value)[:40]}")
    missing = [key for key in ("config", "standing", "class_counts") if key not in meta]
    if missing:
        raise Damaged(f"its meta has no {missing[0]}")
    if meta["standing"].keys() != STANDING:
        raise Damaged(f"standing in its meta has the keys {listed(meta['standing'])}")


def check_config(config: Config, meta: Meta, run: RunFolder) -> None:
    """UserError: the config.yaml of a run is not the configuration that a checkpoint of it was written with.

    Keys that may change when training is resumed may differ; config.yaml has a copy of its own for them.
    """
    if "config" not in meta:
        return
    ours, theirs = json.loads(json.dumps(config.model_dump(mode="json"))), meta["config"]
    for key in flat_keys():
        found, written = _value(ours, key), _value(theirs, key)
        if written is not _ABSENT and found != written and not free_to_change(key):
            came = f"{key} is {found}, and {written} in the checkpoint of step {meta['step']}"
            way_out = f"write {key}: {written} there again, and change settings on the command line alone"
            raise UserError(run.config, came, "the configuration that the training run began with", way_out)


_ABSENT = object()


def _value(raw: object, key: str) -> object:
    """The value of `section.key` in a configuration as JSON has it; `_ABSENT`: an earlier version had no such key."""
    for name in key.split("."):
        if not isinstance(raw, dict) or name not in raw:
            return _ABSENT
        raw = raw[name]
    return raw
