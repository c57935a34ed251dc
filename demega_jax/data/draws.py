"""Random draws on the host."""

import numpy as np


def generator(seed: int, stream: int) -> np.random.Generator:
    """The generator of a stream of a seed: the same numbers on every machine.

    The kind of generator is named, as numpy's default may become another, and it is keyed by both numbers.
    """
    return np.random.Generator(np.random.Philox(key=[seed, stream]))
