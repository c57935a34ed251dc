"""Tensors of the published PyTorch system and our parameters: one table of names and layouts, read both ways.

Our names are dotted paths such as `encoder.layers.0.norm1.scale`; theirs are those of a state dict.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from demega_jax.config import ModelConfig
from demega_jax.errors import UserError, listed

Arrays = dict[str, np.ndarray]
Shape = tuple[int, ...]


class Layout(NamedTuple):
    """How an array of ours lies in theirs, and the reverse."""

    to_torch: Callable[[np.ndarray], np.ndarray]
    from_torch: Callable[[np.ndarray], np.ndarray]


SAME = Layout(lambda a: a, lambda a: a)
LINEAR = Layout(lambda a: a.T, lambda a: a.T)  # [I, O] and [O, I]
CONV = Layout(lambda a: a.transpose(2, 1, 0), lambda a: a.transpose(2, 1, 0))  # [k, I, O] and [O, I, k]
CONV_OF_ONE = Layout(lambda a: a.T[:, :, None], lambda a: a[:, :, 0].T)  # [I, O] and [O, I, 1]
DEPTHWISE = Layout(lambda a: a.T[:, None], lambda a: a[:, 0].T)  # [k, E] and [E, 1, k]

# Modules with a weight and a bias: ours, theirs, the layout of the weight. `#` is the number of a layer.
LAYER, THEIR_LAYER = "encoder.layers.#", "meg_encoder.#"
MODULES = (
    ("encoder.stem.conv1", "input_projection.0", CONV),
    ("encoder.stem.conv2", "input_projection.2", CONV),
    ("encoder.stem.skip", "input_skip", CONV_OF_ONE),
    (f"{LAYER}.conv.depthwise", f"{THEIR_LAYER}.conv.0", DEPTHWISE),
    (f"{LAYER}.conv.pointwise", f"{THEIR_LAYER}.conv.2", CONV_OF_ONE),
    (f"{LAYER}.norm1", f"{THEIR_LAYER}.ln1", SAME),
    (f"{LAYER}.norm2", f"{THEIR_LAYER}.ln2", SAME),
    (f"{LAYER}.norm3", f"{THEIR_LAYER}.ln3", SAME),
    (f"{LAYER}.attention.query", f"{THEIR_LAYER}.attention.query_proj", LINEAR),
    (f"{LAYER}.attention.key", f"{THEIR_LAYER}.attention.key_proj", LINEAR),
    (f"{LAYER}.attention.value", f"{THEIR_LAYER}.attention.value_proj", LINEAR),
    (f"{LAYER}.attention.out", f"{THEIR_LAYER}.attention.out_proj", LINEAR),
    (f"{LAYER}.attention.position_norm", f"{THEIR_LAYER}.attention.norm_rel_ebd", SAME),
    (f"{LAYER}.attention.position_key", f"{THEIR_LAYER}.attention.pos_key_proj", LINEAR),
    (f"{LAYER}.attention.position_query", f"{THEIR_LAYER}.attention.pos_query_proj", LINEAR),
    (f"{LAYER}.feedforward.up", f"{THEIR_LAYER}.ffn.0", LINEAR),
    (f"{LAYER}.feedforward.down", f"{THEIR_LAYER}.ffn.3", LINEAR),
    ("encoder.final_norm", "feature_norm", SAME),
    ("aggregator.hidden", "feature_aggregator.1", LINEAR),
    ("aggregator.embed", "feature_aggregator.3", LINEAR),
    ("classifier", "classifier", LINEAR),
    ("ipa.hidden", "ipa_predictor.0", LINEAR),
    ("ipa.out", "ipa_predictor.3", LINEAR),
    ("projection.hidden", "projection_head.0", LINEAR),
    ("projection.out", "projection_head.2", LINEAR),
)


class Entry(NamedTuple):
    """Where a parameter of ours is in theirs: one tensor, or two whose sum it is (the biases of an LSTM)."""

    theirs: tuple[str, ...]
    layout: Layout


def _entries() -> Iterator[tuple[str, Entry]]:
    for ours, theirs, layout in MODULES:
        yield f"{ours}.{'scale' if layout is SAME else 'kernel'}", Entry((f"{theirs}.weight",), layout)
        yield f"{ours}.bias", Entry((f"{theirs}.bias",), SAME)
    yield f"{LAYER}.attention.position_table", Entry((f"{THEIR_LAYER}.attention.rel_embeddings.weight",), SAME)
    for direction, end in (("forward", "l#"), ("backward", "l#_reverse")):
        ours = f"encoder.{direction}.#"
        yield f"{ours}.input_kernel", Entry((f"meg_encoder.weight_ih_{end}",), LINEAR)
        yield f"{ours}.hidden_kernel", Entry((f"meg_encoder.weight_hh_{end}",), LINEAR)
        yield f"{ours}.bias", Entry((f"meg_encoder.bias_ih_{end}", f"meg_encoder.bias_hh_{end}"), SAME)
    yield "feature_table", Entry(("ipa_feature_matrix",), SAME)


TABLE = dict(_entries())


def entry_of(path: str) -> Entry:
    """Where a parameter of ours is in theirs. UserError: the published system has nothing like it."""
    numbers = re.findall(r"(?<=\.)\d+(?=\.)", path)
    entry = TABLE.get(re.sub(r"(?<=\.)\d+(?=\.)", "#", path))
    if entry is None:
        wanted = "a parameter that the published system has too"
        raise UserError(path, "no tensor of the published system corresponds to it", wanted, "use model.pool=flatten")
    return Entry(tuple(name.replace("#", numbers[0]) if numbers else name for name in entry.theirs), entry.layout)


def to_state_dict(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Their tensors by name, from our parameters and the feature table by path."""
    tensors = {}
    for path, array in arrays.items():
        entry = entry_of(path)
        tensors[entry.theirs[0]] = np.ascontiguousarray(entry.layout.to_torch(array))
        for name in entry.theirs[1:]:
            tensors[name] = np.full_like(array, -0.0)  # unlike 0.0, it changes no bit of what it is added to
    return tensors


def from_state_dict(
    tensors: Mapping[str, np.ndarray], shapes: Mapping[str, Shape], unused: Mapping[str, Shape], where: object
) -> Arrays:
    """Our arrays by path, from their tensors: every tensor is used, or is one of `unused`, which may be there.

    shapes: of our arrays by path.  unused: shapes by their names.  UserError about `where`: tensors are missing, left
    over, or of another shape.
    """
    entries = {path: entry_of(path) for path in shapes}
    wanted = {name: torch_shape(path, shapes[path]) for path, entry in entries.items() for name in entry.theirs}
    _check_names(set(tensors), set(wanted), set(unused), where)
    check_shapes(tensors, {**unused, **wanted}, where)
    arrays = {}
    for path, entry in entries.items():
        first, *others = (tensors[name] for name in entry.theirs)
        arrays[path] = np.ascontiguousarray(entry.layout.from_torch(sum(others, first)))
    return arrays


def torch_shape(path: str, shape: Shape) -> Shape:
    """The shape in their layout of an array of ours with this shape."""
    return entry_of(path).layout.to_torch(np.broadcast_to(np.float32(0), shape)).shape


def unused_shapes(model: ModelConfig) -> dict[str, Shape]:
    """Tensors that the published system keeps and never reads, with their shapes.

    An LSTM leaves the final LayerNorm unused, and classification by feature similarity the linear classifier.
    """
    assert model.classes is not None  # filled in before there are parameters
    shapes: dict[str, Shape] = {}
    if model.encoder == "lstm":
        shapes |= {f"feature_norm.{part}": (2 * model.width,) for part in ("weight", "bias")}
    if model.classifier != "linear":
        classes = len(model.classes)
        shapes |= {"classifier.weight": (classes, model.embedding_width), "classifier.bias": (classes,)}
    return shapes


WAY_OUT = "give the value that fits, such as model.width=64, after RUN; or name another checkpoint"


def _check_names(there: set[str], wanted: set[str], unused: set[str], where: object) -> None:
    missing, extra = sorted(wanted - there), sorted(there - wanted - unused)
    if not missing and not extra:
        return
    parts = [f"{len(missing)} tensors are missing ({listed(missing)})"] if missing else []
    parts += [f"{len(extra)} are too many ({listed(extra)})"] if extra else []
    raise UserError(where, " and ".join(parts), f"the {len(wanted)} tensors of its configuration", WAY_OUT)


def check_shapes(tensors: Mapping[str, np.ndarray], shapes: Mapping[str, Shape], where: object) -> None:
    """UserError: tensors have other shapes than their configuration says. The first in the file is named."""
    wrong = [name for name, tensor in tensors.items() if tensor.shape != shapes[name]]
    if wrong:
        more = f", and {len(wrong) - 1} more tensors have other shapes too" if len(wrong) > 1 else ""
        came = f"{wrong[0]} has shape {tensors[wrong[0]].shape}{more}"
        raise UserError(where, came, f"{shapes[wrong[0]]}, by its configuration", WAY_OUT)
