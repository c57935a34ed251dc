"""Eight virtual CPU devices for every test, and full precision of matrix products."""

import os

# A loop that dispatches collectives to more virtual devices than cores can deadlock unless the thread pool is
# larger than the machine; XLA reads this before jax starts. Subprocesses of tests inherit it.
os.environ["NPROC"] = "32"
os.environ["JAX_PLATFORMS"] = "cpu"

from pathlib import Path

import jax
import numpy as np
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_default_matmul_precision", "highest")

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def golden():
    """Numbers of the original system: `golden("attention")` is that file as a dict of arrays."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(GOLDEN / f"{name}.npz") as file:
            return dict(file)

    return load
