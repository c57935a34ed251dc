"""DeMEGa: disentangled MEG attention for phoneme classification (Smechov et al., 2025)."""

import dataclasses
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from demega_jax.config import ModelConfig
from demega_jax.model.conformer import ConformerEncoder
from demega_jax.model.dropout import Noise, at
from demega_jax.model.heads import Aggregator, IPAHead, ProjectionHead, feature_similarity
from demega_jax.model.layers import beside, linear
from demega_jax.model.lstm import BidirectionalLSTM
from demega_jax.phonemes import feature_table
from demega_jax.signal.normalize import normalize


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Outputs:
    """What a forward pass gives, in training and in evaluation; None where the model has no such head.

    logits [B, V] of the classes; ipa_logits [B, F] of the phonetic features; projection [B, P], unit rows;
    embedding [B, Z] that the heads read; features [B, T, E] of the encoder. float32 but for the last two, which
    are of the compute type.
    """

    logits: Float[Array, "B V"]
    ipa_logits: Float[Array, "B F"] | None
    projection: Float[Array, "B P"] | None
    embedding: Float[Array, "B Z"]
    features: Float[Array, "B T E"]


class FeatureTable(nnx.Variable):
    """The classes' phonetic features: saved with a model, never trained."""


class DeMEGa(nnx.Module):
    """Windows [B, C, T] to class logits, IPA features and a contrastive projection.

    rngs: the source of initial parameters: nnx.Rngs (its `params` stream), or a numpy generator.
    config: sensors, time_points and classes must be set (`ModelConfig.for_data`).
    features: [V, F] of 0 and 1, the classes' phonetic features; by default those of `phonemes.feature_table`.
    """

    def __init__(
        self, config: ModelConfig, *, rngs: nnx.Rngs | np.random.Generator, features: np.ndarray | None = None
    ):
        config = config.with_ipa()
        if config.sensors is None or config.time_points is None or config.classes is None:
            raise ValueError("sensors, time_points and classes of the ModelConfig must be set")
        rng = _generator(rngs)
        dtype = jnp.dtype(config.dtype)
        encoder = ConformerEncoder if config.encoder == "conformer" else BidirectionalLSTM
        width = config.width if config.encoder == "conformer" else 2 * config.width
        self.encoder = encoder(config, config.sensors, rng=rng)
        self.aggregator = Aggregator(config, width, config.time_points, rng=rng)
        dense = config.classifier == "linear"
        self.classifier = linear(config.embedding_width, len(config.classes), dtype=dtype, rng=rng) if dense else None
        if config.ipa_width:
            table = feature_table(config.classes) if features is None else features
            self.feature_table = FeatureTable(jnp.asarray(table, jnp.float32))
        self.ipa = IPAHead(config, table.shape[1], rng=rng) if config.ipa_width else None
        self.projection = ProjectionHead(config, rng=rng) if config.projection_width else None
        self.config = config

    @classmethod
    def from_pretrained(cls, source: str | Path, *, revision: str | None = None, member: int = 0) -> "DeMEGa":
        """The trained model of a repository on the hub (OWNER/NAME), or of a folder with the same files.

        revision: branch, tag or commit; None: main.  member: which of several models. UserError: there is no such
        model, or its files do not fit together.
        """
        from demega_jax.model.published import open_published

        return open_published(source, revision).model(member)

    def __call__(
        self,
        x: Float[Array, "B C T"],
        *,
        normalized: bool = False,
        keep: Bool[Array, "B T"] | None = None,
        noise: Noise | None = None,
    ) -> Outputs:
        """A forward pass; with `noise`, dropout acts.

        normalized: x went through `signal.normalize` already.  keep: real positions of padded windows; the
        statistics of normalisation are of the whole window, so give such windows normalised.
        """
        if not normalized:
            x = normalize(x, self.config.input_norm)
        x = x.astype(jnp.dtype(self.config.dtype))
        features = self.encoder(x, keep=keep, noise=at(noise, 0))
        embedding = self.aggregator(features, keep=keep, noise=at(noise, 1))
        return self._heads(features, embedding, at(noise, 2))

    def _heads(self, features: Float[Array, "B T E"], z: Float[Array, "B Z"], noise: Noise | None) -> Outputs:
        """What the heads make of an embedding. Their first layers, which all read it, are one product."""
        layers = [] if self.classifier is None else [self.classifier]
        layers += [head.hidden for head in (self.ipa, self.projection) if head is not None]
        given = iter(beside(z, layers))
        logits = None if self.classifier is None else next(given).astype(jnp.float32)
        ipa_logits = None if self.ipa is None else self.ipa.after_hidden(next(given), noise=noise)
        projection = None if self.projection is None else self.projection.after_hidden(next(given))
        if logits is None:
            assert ipa_logits is not None  # ModelConfig refuses a similarity classifier without the IPA head
            metric = self.config.classifier.removeprefix("ipa_")
            logits = feature_similarity(ipa_logits, self.feature_table[...], metric)
        return Outputs(logits, ipa_logits, projection, z, features)


def _generator(rngs: nnx.Rngs | np.random.Generator) -> np.random.Generator:
    if isinstance(rngs, np.random.Generator):
        return rngs
    return np.random.default_rng(np.asarray(jax.random.key_data(rngs.params())))


def parameter_count(params: object) -> int:
    """Number of trained numbers in a tree of arrays (or of shapes)."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
