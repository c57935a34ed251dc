"""Checkpoints of older formats, as today's: the names and shapes that their arrays have now."""

import re

import numpy as np

from demega_jax.model.parameters import Arrays

# Format 1 had an optimizer for each group of parameters, with counts of its own.
OF_A_GROUP = re.compile(r"opt_state\.1\.inner_states\.(body|heads)\.inner_state\.(.+)")


def from_format_1(arrays: Arrays) -> Arrays:
    """The arrays of a checkpoint of format 1: the state of the optimizer becomes that of one vector, body first."""
    kept: Arrays = {}
    groups: dict[str, dict[str, np.ndarray]] = {"body": {}, "heads": {}}
    for name, array in arrays.items():
        if found := OF_A_GROUP.fullmatch(name):
            group, rest = found.groups()
            groups[group][rest.removesuffix(f".{group}")] = array
        else:
            kept[name] = array
    for rest in dict.fromkeys(name for group in groups.values() for name in group):
        parts = [group[rest] for group in groups.values() if rest in group]
        # Both groups have counted the same updates.
        kept[f"opt_state.1.{rest}"] = parts[0] if rest.endswith("count") else np.concatenate(parts)
    return kept
