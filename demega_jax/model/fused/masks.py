"""The dropouts of a branch: drawn once, and given to a kernel or applied by plain JAX."""

from collections.abc import Sequence

from jaxtyping import Array, Float, UInt32

from demega_jax.model import cpu_layout
from demega_jax.model.dropout import Noise, Share, apply_dropout, mask_of
from demega_jax.model.fused.plan import Masks

Words = UInt32[Array, "S B count"] | None


def draw(sites: Sequence[Noise | None], rate: float, elements: int) -> tuple[Masks | None, Words]:
    """The dropouts of `sites`, and the words of random bits that they read; nothing in evaluation, or at rate 0.

    sites: None in evaluation.  elements: of a row of the batch.
    """
    noisy = [site for site in sites if site is not None]
    if not rate or not noisy:
        return None, None
    share = Share.of(rate)
    drawn = noisy[0].words(noisy, share.words(elements))
    return Masks(share, tuple(drawn.place(site) for site in noisy)), drawn.words


def apply(masks: Masks | None, words: Words, x: Float[Array, "B T E"]) -> Float[Array, "B T E"]:
    """What the dropouts leave of x, one after the other."""
    if masks is None or words is None:
        return x
    for place in masks.places:
        x = apply_dropout(x, mask_of(cpu_layout.apart_on_tpu(words[place]), x.shape[1:], masks.share))
    return x
