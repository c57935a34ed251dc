"""The published system's weights in our tree: names and layouts (golden/README: PyTorch names and shapes)."""

import re

import numpy as np

LINEAR = {"query_proj": "query", "key_proj": "key", "value_proj": "value", "out_proj": "out",
          "pos_key_proj": "position_key", "pos_query_proj": "position_query"}  # fmt: skip
LAYER = {"conv.0": "conv.depthwise", "conv.2": "conv.pointwise", "ln1": "norm1", "ln2": "norm2", "ln3": "norm3",
         "ffn.0": "feedforward.up", "ffn.3": "feedforward.down"}  # fmt: skip
MODEL = {"input_projection.0": "encoder.stem.conv1", "input_projection.2": "encoder.stem.conv2",
         "input_skip": "encoder.stem.skip", "feature_norm": "encoder.final_norm",
         "feature_aggregator.1": "aggregator.hidden", "feature_aggregator.3": "aggregator.embed",
         "classifier": "classifier", "ipa_predictor.0": "ipa.hidden", "ipa_predictor.3": "ipa.out",
         "projection_head.0": "projection.hidden", "projection_head.2": "projection.out"}  # fmt: skip


def our_path(name: str) -> str:
    """Dotted path of a torch parameter, such as meg_encoder.0.attention.query_proj.weight."""
    module, _, kind = name.rpartition(".")
    layer = re.fullmatch(r"meg_encoder\.(\d+)\.(.+)", module)
    prefix = f"encoder.layers.{layer[1]}." if layer else ""
    inner = layer[2] if layer else module
    attention = inner.rpartition(".")[2]
    if attention == "rel_embeddings":
        return f"{prefix}{'attention.' if 'attention' in inner else ''}position_table"
    if attention == "norm_rel_ebd":
        ours = inner.replace("norm_rel_ebd", "position_norm")
    elif attention in LINEAR:
        ours = inner.replace(attention, LINEAR[attention])
    else:
        ours = LAYER.get(inner) or MODEL[inner]
    norm = ours.endswith(("norm", "norm1", "norm2", "norm3"))
    return f"{prefix}{ours}.{'scale' if kind == 'weight' and norm else {'weight': 'kernel', 'bias': 'bias'}[kind]}"


def our_layout(name: str, value: np.ndarray) -> np.ndarray:
    """Linear [O, I] -> [I, O]; Conv1d [O, I, k] -> [k, I, O], [O, I] if k = 1, [k, E] if depthwise."""
    if "rel_embeddings" in name or value.ndim == 1:
        return value
    if value.ndim == 2:
        return value.T
    if value.shape[1] == 1 and value.shape[2] > 1:
        return value[:, 0].T
    return value[:, :, 0].T if value.shape[2] == 1 else value.transpose(2, 1, 0)


def convert(weights: dict[str, np.ndarray]) -> dict:
    """A nested dict of our parameters from a torch state dict (LSTM weights included)."""
    tree: dict = {}
    for name, value in weights.items():
        if name == "ipa_feature_matrix" or ".weight_" in name or ".bias_" in name:
            continue
        put(tree, our_path(name), our_layout(name, value))
    for direction, suffix in (("forward", ""), ("backward", "_reverse")):
        for layer in range(sum(re.fullmatch(r"meg_encoder\.weight_ih_l\d+", n) is not None for n in weights)):
            end = f"l{layer}{suffix}"
            path = f"encoder.{direction}.{layer}."
            put(tree, path + "input_kernel", weights[f"meg_encoder.weight_ih_{end}"].T)
            put(tree, path + "hidden_kernel", weights[f"meg_encoder.weight_hh_{end}"].T)
            put(tree, path + "bias", weights[f"meg_encoder.bias_ih_{end}"] + weights[f"meg_encoder.bias_hh_{end}"])
    return tree


def put(tree: dict, path: str, value: np.ndarray) -> None:
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parents:
        tree = tree.setdefault(part, {})
    tree[last] = value


def part(golden: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The entries below a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)}


def flat(tree: dict, prefix: str = "") -> dict[str, np.ndarray]:
    """{dotted path: array} of a nested dict."""
    out: dict[str, np.ndarray] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        out.update(flat(value, path + ".") if isinstance(value, dict) else {path: np.asarray(value)})
    return out


def load(module, weights: dict) -> None:
    """Give a module exactly these parameters: every one of its own, and none that it lacks."""
    from flax import nnx

    state = nnx.state(module, nnx.Param)
    own = {".".join(map(str, path)): variable for path, variable in nnx.to_flat_state(state)}
    given = flat(weights)
    assert set(own) == set(given), set(own) ^ set(given)
    for path, variable in own.items():
        assert variable[...].shape == given[path].shape, path
        variable[...] = given[path]
    nnx.update(module, state)
