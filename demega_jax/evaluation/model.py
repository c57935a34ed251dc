"""Trained models: read from a run folder, and used on arrays from Python."""

import dataclasses
import functools
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float, Int, PyTree
from numpy.typing import ArrayLike

from demega_jax.config import Config
from demega_jax.data.arrays import array_split
from demega_jax.data.grouped import check_window
from demega_jax.data.split import Split
from demega_jax.data.spread import check_spread
from demega_jax.data.trained import check_windows
from demega_jax.errors import UserError
from demega_jax.evaluation.compiled import compile_evaluate
from demega_jax.evaluation.evaluate import evaluate_split, make_evaluate_step
from demega_jax.evaluation.predict import Predictions, Predictor, predict_split
from demega_jax.metrics import Scores
from demega_jax.names import same_names
from demega_jax.training.members import stack
from demega_jax.training.parallel import Placement, make_placement
from demega_jax.training.program_cache import keep_programs
from demega_jax.training.stored import read_run

MOST_ROWS = {"cpu": 64}  # rows of a batch on a platform where train.batch_size would take too long


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A trained model: its configuration, its static part, its parameters and buffers.

    name: of its run.  steps: the step of its checkpoint, or those of all members; parameters and buffers then have an
    axis of members in front.  class_counts [V]: number of rows of each class in the training split.
    """

    name: str
    config: Config
    graphdef: nnx.GraphDef
    params: PyTree
    buffers: PyTree
    steps: tuple[int, ...]
    class_counts: Int[np.ndarray, " V"]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the columns of `predict`."""
        assert self.config.model.classes is not None  # filled in when training began
        return self.config.model.classes

    @property
    def window(self) -> tuple[int, int | None]:
        """(sensors, time points) that a window must have; None in place of time points where any number fits."""
        model = self.config.model
        assert model.sensors is not None  # filled in when training began
        return model.sensors, model.time_points if model.pool == "flatten" else None

    @property
    def members(self) -> bool:
        """Whether several models are averaged."""
        return len(self.steps) > 1

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each member; of a single model, that of its run."""
        if not self.members:
            return (self.name,)
        return tuple(f"{self.name}/members/{number}" for number in range(len(self.steps)))

    @property
    def member_params(self) -> PyTree:
        """The parameters with an axis of members in front, also where there is one model."""
        return self.params if self.members else jax.tree.map(lambda leaf: leaf[None], self.params)

    @property
    def member_buffers(self) -> PyTree:
        """The buffers with an axis of members in front."""
        return self.buffers if self.members else jax.tree.map(lambda leaf: leaf[None], self.buffers)

    def predict(self, x: ArrayLike) -> Float[np.ndarray, "N V"]:
        """Probabilities of the classes, averaged over members.

        x [N, C, T]: windows as grouped files hold them, that is, standardised but not normalised one by one. Any
        number of windows, none among them: they are taken in batches. UserError: another shape, or values not finite.
        """
        return self._predictions(x).plain.mean(axis=0)

    def predict_logits(self, x: ArrayLike) -> Float[np.ndarray, "N V"]:
        """Logits of the classes, before the softmax; with members, their mean. x: as for `predict`."""
        return self._predictions(x).logits.mean(axis=0)

    def embed(self, x: ArrayLike) -> Float[np.ndarray, "N Z"]:
        """The embedding that the heads read; with members, one after the other: [N, M Z]. x: as for `predict`."""
        (embedding,) = self._predictions(x, embedding=True).embeddings
        return np.concatenate(list(embedding), axis=-1)

    def evaluate(self, split: Split, batch_size: int | None = None) -> Scores:
        """The scores of a split, such as `demega_jax.open_levels(folder, 100, "test")` gives.

        UserError: it has other windows, events or classes, or rows without a label.
        """
        check_window(split.path, *split.window, self.window)
        if not same_names(split.classes, self.classes):
            wanted, way_out = f"the {len(self.classes)} classes of {self.name}", "open it with classes=model.classes"
            raise UserError(split.path, f"{len(split.classes)} classes, or another order", wanted, way_out)
        if not split.rows:
            raise UserError(split.path, "no rows", "rows to score", "give data with at least one row")
        if not split.labelled:
            way_out = "use `predict`, or give data with labels"
            raise UserError(split.path, "rows without a label", "a label for every row", way_out)
        check_windows(split, self.config.data)
        check_spread(split, self.config.model.input_norm)
        return self.count(split, batch_size)

    def count(self, split: Split, batch_size: int | None = None) -> Scores:
        """`evaluate` for a split that was opened for this model, without its checks."""
        placement, batch_size = self.placement(batch_size or self.config.train.batch_size)
        step = make_evaluate_step(self.config, self.graphdef, self.class_counts, split, members=self.members)
        params, buffers = placement.replicate((self.params, self.buffers))
        compiled = compile_evaluate(placement, step)
        return evaluate_split(compiled, params, buffers, split, self.config, placement, batch_size)

    def placement(self, rows: int) -> tuple[Placement, int]:
        """All devices, and a batch of at least so many rows that they can share."""
        devices = jax.device_count()
        batch_size = -(-max(rows, 1) // devices) * devices
        return make_placement("jit", devices, batch_size), batch_size

    def _predictions(self, x: ArrayLike, *, embedding: bool = False) -> Predictions:
        split = array_split(x, self.classes, self.window)
        check_spread(split, self.config.model.input_norm)
        most = MOST_ROWS.get(jax.default_backend(), self.config.train.batch_size)
        # Few windows make a small batch. Its size is a power of two, so that there are few programs to compile.
        placement, batch_size = self.placement(min(most, 1 << max(split.rows - 1, 0).bit_length()))
        return predict_split([self._predictor(placement, embedding)], split, batch_size)

    @functools.lru_cache(maxsize=2)  # noqa: B019 a model lives as long as its programs are used
    def _predictor(self, placement: Placement, embedding: bool) -> Predictor:
        return Predictor(self, placement, embedding=embedding)


def load(run: str | Path) -> Model:
    """The model of a run folder, from its best checkpoint, with all its members where there are several.

    Compiled programs are kept on disk, so that later processes need not compile them again. UserError: no checkpoint
    can be read, or the files of the folder do not agree with each other.
    """
    keep_programs()
    stored = read_run(Path(run))
    tree = stack(stored.trees)
    steps = tuple(int(meta["step"]) for meta in stored.metas)
    counts = np.asarray(stored.metas[0]["class_counts"])
    return Model(str(run), stored.config, stored.graphdef, tree["params"], tree["buffers"], steps, counts)
