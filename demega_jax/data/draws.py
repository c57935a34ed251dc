"""Random draws on the host."""

import numpy as np


def generator(seed: int, stream: int) -> np.random.Generator:
    """A random generator for a seed and the number of a stream; it gives the same numbers on every machine.

    Its kind is named here, as numpy may change its default.
    """
    return np.random.Generator(np.random.Philox(key=[seed, stream]))
