"""From features [B, T, E] to an embedding, and from it to classes, IPA features and a contrastive projection."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from demega_jax.config import ModelConfig
from demega_jax.model.dropout import Noise, at, dropout
from demega_jax.model.layers import affine, linear, uniform_fan_in

SIMILARITY_SCALE = 10.0
NORM_FLOOR = 1e-12


class Aggregator(nnx.Module):
    """Pools time and embeds: flatten | mean | attention -> drop -> Linear -> SiLU -> Linear -> drop, [B, Z].

    flatten: time-major, [B, T*E], so the time length is fixed; mean: over the kept positions; attention: a
    softmax over time of one learned score a position (Lin et al., 2017), so that any length fits.
    """

    def __init__(self, config: ModelConfig, features: int, time_points: int, *, rng: np.random.Generator):
        dtype, width = jnp.dtype(config.dtype), config.embedding_width
        self.pool, self.rate, self.time_points = config.pool, config.dropout, time_points
        if config.pool == "attention":
            self.score = nnx.Param(uniform_fan_in(rng, (features,), features))
        inputs = features * time_points if config.pool == "flatten" else features
        self.hidden = linear(inputs, 2 * width, dtype=dtype, rng=rng)
        self.embed = linear(2 * width, width, dtype=dtype, rng=rng)

    def pooled(self, x: Float[Array, "B T E"], keep: Bool[Array, "B T"] | None) -> Float[Array, "B I"]:
        if keep is not None:
            x = jnp.where(keep[:, :, None], x, jnp.zeros((), x.dtype))
        if self.pool == "flatten":
            if x.shape[1] != self.time_points:
                raise ValueError(
                    f"pool=flatten fixes {self.time_points} time points, {x.shape[1]} came; pool=mean takes any"
                )
            return x.reshape(x.shape[0], -1)
        where = jnp.ones(x.shape[:2], bool) if keep is None else keep
        x32 = x.astype(jnp.float32)
        if self.pool == "mean":
            return (jnp.sum(x32, axis=1) / jnp.maximum(where.sum(1), 1)[:, None]).astype(x.dtype)
        scores = jnp.where(where, x32 @ self.score[...], -jnp.inf)
        return jnp.einsum("bt,bte->be", jax.nn.softmax(scores, axis=-1, where=where), x32).astype(x.dtype)

    def __call__(
        self, x: Float[Array, "B T E"], *, keep: Bool[Array, "B T"] | None = None, noise: Noise | None = None
    ) -> Float[Array, "B Z"]:
        pooled = dropout(self.pooled(x, keep), self.rate, at(noise, 0))
        return dropout(affine(self.embed, jax.nn.silu(affine(self.hidden, pooled))), self.rate, at(noise, 1))


class IPAHead(nnx.Module):
    """Logits of the phonetic features: Linear -> SiLU -> drop -> Linear, [B, Z] -> [B, F]."""

    def __init__(self, config: ModelConfig, features: int, *, rng: np.random.Generator):
        dtype = jnp.dtype(config.dtype)
        assert config.ipa_width is not None  # DeMEGa fills it in
        self.hidden = linear(config.embedding_width, config.ipa_width, dtype=dtype, rng=rng)
        self.out = linear(config.ipa_width, features, dtype=dtype, rng=rng)
        self.rate = config.dropout

    def after_hidden(self, hidden: Float[Array, "B I"], *, noise: Noise | None = None) -> Float[Array, "B F"]:
        """The logits from what the first layer, `hidden`, gives."""
        return affine(self.out, dropout(jax.nn.silu(hidden), self.rate, at(noise, 0))).astype(jnp.float32)


class ProjectionHead(nnx.Module):
    """Unit vectors for the contrastive loss: Linear -> ReLU -> Linear -> l2 norm, [B, Z] -> [B, P]."""

    def __init__(self, config: ModelConfig, *, rng: np.random.Generator):
        dtype, width = jnp.dtype(config.dtype), config.embedding_width
        self.hidden = linear(width, width, dtype=dtype, rng=rng)
        self.out = linear(width, config.projection_width, dtype=dtype, rng=rng)

    def after_hidden(self, hidden: Float[Array, "B Z"]) -> Float[Array, "B P"]:
        """The unit vectors from what the first layer, `hidden`, gives."""
        u = affine(self.out, jax.nn.relu(hidden)).astype(jnp.float32)
        # The floor is inside the root, so that a row of zeros has a gradient of zeros instead of NaN.
        return u * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(u), axis=-1, keepdims=True), NORM_FLOOR**2))


def feature_similarity(ipa_logits: Float[Array, "B F"], table: Float[Array, "V F"], metric: str) -> Float[Array, "B V"]:
    """Class logits as the similarity of predicted and true feature vectors (model.md section 5).

    cosine: of the features' probabilities, times 10; dot: of the probabilities; hamming: share of features that
    match when thresholded at 1/2, times 10 (it has no gradient). Classes with equal rows get equal logits.
    """
    probabilities = jax.nn.sigmoid(ipa_logits)
    if metric == "dot":
        return probabilities @ table.T
    if metric == "cosine":
        return SIMILARITY_SCALE * (_unit(probabilities) @ _unit(table).T)
    match = (probabilities > 0.5).astype(jnp.float32)[:, None, :] == (table > 0.5).astype(jnp.float32)[None]
    return SIMILARITY_SCALE * jnp.mean(match.astype(jnp.float32), axis=-1)


def _unit(x: Float[Array, "N F"]) -> Float[Array, "N F"]:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), NORM_FLOOR)
