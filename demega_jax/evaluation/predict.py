"""Logits, probabilities and embeddings of every row of a split, batch after batch, on all devices."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, PyTree

from demega_jax.config import Config
from demega_jax.data.arrays import array_split
from demega_jax.data.feeds.stream import split_batches
from demega_jax.data.split import Split
from demega_jax.evaluation.compiled import compile_predict
from demega_jax.evaluation.tta import TestTimeAugmentation
from demega_jax.training.parallel import Placement
from demega_jax.training.setup import is_normalized
from demega_jax.training.step import Batch, inputs

if TYPE_CHECKING:
    from demega_jax.evaluation.model import Model

Outputs = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class PredictStep:
    """The function (params, buffers, first, batch) -> outputs of each member, with an axis of members in front.

    first: the number of the first row of the batch in the whole input.  embedding: whether to give it.  tta: the
    augmentation of `tta` probabilities; None: there are none.
    """

    graphdef: nnx.GraphDef
    config: Config
    normalized: bool
    embedding: bool
    tta: TestTimeAugmentation | None

    def __call__(self, params: PyTree, buffers: PyTree, first: Array, batch: Batch) -> dict[str, Array]:
        """logits [M, B, V]; embedding [M, B, Z] and tta [M, B, V] (probabilities) where they are asked for."""
        x = inputs(batch, self.config.model.input_norm, self.normalized)
        rows = first + jnp.arange(len(x), dtype=jnp.uint32)

        def of_member(params: PyTree, buffers: PyTree) -> dict[str, Array]:
            model = nnx.merge(self.graphdef, params, buffers)
            outputs = model(x, normalized=True)
            found = {"logits": outputs.logits}
            if self.embedding:
                found["embedding"] = outputs.embedding.astype(jnp.float32)
            if self.tta is not None:
                found["tta"] = self.tta.probabilities(
                    lambda copy: jax.nn.softmax(model(copy, normalized=True).logits), x, rows
                )
            return found

        return jax.vmap(of_member)(params, buffers)


class Predictor:
    """A model on the devices of a placement. Its program is compiled once for each size of a batch."""

    def __init__(
        self, model: "Model", placement: Placement, *, embedding: bool = False, tta: TestTimeAugmentation | None = None
    ):
        """embedding, tta: as in `PredictStep`."""
        self.model, self.placement, self._embedding, self._tta = model, placement, embedding, tta
        self._params, self._buffers = placement.replicate((model.member_params, model.member_buffers))

    @functools.lru_cache(maxsize=2)  # noqa: B019 a predictor lives as long as its programs are used
    def _compiled(self, normalized: bool) -> jax.stages.Wrapped:
        step = PredictStep(self.model.graphdef, self.model.config, normalized, self._embedding, self._tta)
        return compile_predict(self.placement, step)

    def start(self, split: Split, first: int, batch: Batch) -> dict[str, Array]:
        """Begin to compute the outputs of a batch of a split that is on the devices already."""
        compiled = self._compiled(is_normalized(self.model.config, split))
        return compiled(self._params, self._buffers, np.uint32(first), batch)


def predict_batches(
    predictors: Sequence[Predictor], split: Split, batch_size: int
) -> Iterator[tuple[int, list[Outputs]]]:
    """One pass over a split: (number of the first row, outputs of each predictor) of each batch, without padding.

    All predictors have the same placement. While the host uses a batch, the devices compute the next one.
    """
    placement = predictors[0].placement
    ahead: tuple[int, list[dict[str, Array]]] | None = None
    who = {"process_index": placement.process, "process_count": placement.processes}
    batches = split_batches(split, batch_size=batch_size, place=placement.put_batch, **who)
    for number, batch in enumerate(batches):
        first = number * batch_size
        started = [predictor.start(split, first, batch) for predictor in predictors]
        if ahead is not None:
            yield _on_host(*ahead, split.rows)
        ahead = first, started
    if ahead is not None:
        yield _on_host(*ahead, split.rows)


def _on_host(first: int, started: Sequence[dict[str, Array]], rows: int) -> tuple[int, list[Outputs]]:
    return first, [{name: np.asarray(a)[:, : rows - first] for name, a in outputs.items()} for outputs in started]


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """What models say about the rows of a split.

    names [M]: of the models.  classes: the V names.  labels [N]: positions in them; -1 where none is known.
    logits [M, N, V].  tta [M, N, V]: probabilities with test-time augmentation.  embeddings: of each run [m, N, Z].
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    labels: Int[np.ndarray, " N"]
    logits: Float[np.ndarray, "M N V"]
    tta: Float[np.ndarray, "M N V"] | None = None
    embeddings: tuple[Float[np.ndarray, "m N Z"], ...] = ()

    @functools.cached_property
    def plain(self) -> Float[np.ndarray, "M N V"]:
        """Probabilities of each model without test-time augmentation."""
        shifted = np.exp(self.logits - self.logits.max(axis=-1, keepdims=True))
        return shifted / shifted.sum(axis=-1, keepdims=True)

    @property
    def probabilities(self) -> Float[np.ndarray, "M N V"]:
        """Probabilities of each model, with test-time augmentation where that was asked for."""
        return self.plain if self.tta is None else self.tta


def iter_predictions(predictors: Sequence[Predictor], split: Split, batch_size: int) -> Iterator[Predictions]:
    """The predictions of all models for the rows of a split, batch after batch, in order.

    Of a split without rows there is one batch, without rows, so that all outputs have their shapes.
    """
    if not split.rows:
        yield from (
            _no_rows(found) for found in iter_predictions(predictors, _one_row(predictors[0].model), batch_size)
        )
        return
    names = tuple(name for predictor in predictors for name in predictor.model.names)
    for first, outputs in predict_batches(predictors, split, batch_size):
        logits = np.concatenate([each["logits"] for each in outputs])
        yield Predictions(
            names=names,
            classes=predictors[0].model.classes,
            labels=split.labels[first : first + logits.shape[1]],
            logits=logits,
            tta=np.concatenate([each["tta"] for each in outputs]) if "tta" in outputs[0] else None,
            embeddings=tuple(each["embedding"] for each in outputs if "embedding" in each),
        )


def _one_row(model: "Model") -> Split:
    """A window of zeros, as a split."""
    config = model.config.model
    window = (config.sensors or 1, config.time_points or 1)
    return array_split(np.zeros((1, *window), np.float32), model.classes, window)


def _no_rows(found: Predictions) -> Predictions:
    return dataclasses.replace(
        found,
        labels=found.labels[:0],
        logits=found.logits[:, :0],
        tta=None if found.tta is None else found.tta[:, :0],
        embeddings=tuple(each[:, :0] for each in found.embeddings),
    )


def predict_split(predictors: Sequence[Predictor], split: Split, batch_size: int) -> Predictions:
    """The predictions of all models for all rows of a split. Only the outputs are held in memory, not the rows."""
    return joined(list(iter_predictions(predictors, split, batch_size)))


def joined(parts: Sequence[Predictions]) -> Predictions:
    """The predictions of the same models for rows that follow each other."""
    tta = [part.tta for part in parts if part.tta is not None]
    return dataclasses.replace(
        parts[0],
        labels=np.concatenate([part.labels for part in parts]),
        logits=np.concatenate([part.logits for part in parts], axis=1),
        tta=np.concatenate(tta, axis=1) if tta else None,
        embeddings=tuple(
            np.concatenate(of_run, axis=1) for of_run in zip(*(part.embeddings for part in parts), strict=True)
        ),
    )
