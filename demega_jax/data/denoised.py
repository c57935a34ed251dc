"""A split whose rows are denoised when they are read."""

from demega_jax.data.changed import ChangedSplit, changed
from demega_jax.data.split import Split
from demega_jax.signal.denoise import denoise


def denoised(split: Split) -> ChangedSplit:
    """A split with wavelet denoising. UserError: its rows are stored normalised, which comes after denoising."""
    return changed(split, lambda x, rows: denoise(x))
