"""The published system's weights in modules of ours, by the names and layouts of `interop/torch_names.py`."""

from collections.abc import Collection, Mapping

import numpy as np

from demega_jax.interop.torch_names import from_state_dict

# Where a module alone stands in a whole model: in ours, and in theirs.
WHOLE = ("", "")
LAYER = ("encoder.layers.0.", "meg_encoder.0.")
ATTENTION = ("encoder.layers.0.attention.", "meg_encoder.0.attention.")


def part(golden: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The entries below a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)}


def flat(tree: dict, prefix: str = "") -> dict[str, np.ndarray]:
    """{dotted path: array} of a nested dict."""
    out: dict[str, np.ndarray] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        out.update(flat(value, path + ".") if isinstance(value, dict) else {path: np.asarray(value)})
    return out


def convert(
    weights: Mapping[str, np.ndarray],
    like: Mapping[str, np.ndarray],
    unused: Collection[str] = (),
    at: tuple[str, str] = WHOLE,
) -> dict[str, np.ndarray]:
    """Their weights as our arrays by path. like: ours, of which each gets a value; every weight is used or `unused`."""
    shapes = {at[0] + path: array.shape for path, array in like.items()}
    theirs = {at[1] + name: value for name, value in weights.items()}
    unread = {name: theirs[name].shape for name in ("ipa_feature_matrix", *unused) if name in theirs}
    found = from_state_dict(theirs, shapes, unread, "golden weights")
    return {path.removeprefix(at[0]): value for path, value in found.items()}


def load(module, weights: Mapping[str, np.ndarray], unused: Collection[str] = (), at: tuple[str, str] = WHOLE) -> None:
    """Give a module exactly these parameters: every one of its own, and none that it lacks."""
    from flax import nnx

    state = nnx.state(module, nnx.Param)
    own = {".".join(map(str, path)): variable for path, variable in nnx.to_flat_state(state)}
    given = convert(weights, own, unused, at)
    for path, variable in own.items():
        variable[...] = given[path]
    nnx.update(module, state)
