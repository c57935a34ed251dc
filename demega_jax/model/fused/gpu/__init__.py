"""Fused attention for NVIDIA GPUs, by Pallas' Triton lowering: this folder alone knows it.

A program has one head and a few neighbouring rows of the batch, which it takes one after the other, and queries in
tiles that see all keys, so that the softmax of a tile is whole. What crosses lanes goes through a few pages that belong
to the program and stay in the cache: q kr' [T, R] and k qr' [S, R], in which a pair finds its row, and the gradient of
the scores by distance, [T, 2S], whose product with zeros and ones is the sum over the pairs of a row.

Lines of a page are read and written along their last axis by neighbouring threads: the terms of k are therefore looked
up as [S, T] and turned.
"""

from demega_jax.model.fused.gpu.backward import backward
from demega_jax.model.fused.gpu.forward import forward

__all__ = ["backward", "forward"]
