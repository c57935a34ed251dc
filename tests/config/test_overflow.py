"""No setting of the optimizer lets parameters overflow: the step does not look whether they did."""

import numpy as np
import pytest

from demega_jax.config import Config
from demega_jax.errors import UserError


@pytest.mark.parametrize(
    ("optim", "told"),
    [
        ({"learning_rate": 1e38}, "learning_rate"),
        ({"learning_rate": 900.0, "head_lr_multiplier": 2.0}, "1800"),
        ({"learning_rate": 0.1, "weight_decay": 20.0}, "at most 6.66667 at this rate"),
    ],
)
def test_rates_that_could_overflow_are_refused(optim, told):
    with pytest.raises((UserError, ValueError), match=told):
        Config.model_validate({"optim": optim})


def test_the_largest_rates_and_decays_are_taken():
    optim = Config.model_validate({"optim": {"learning_rate": 500.0, "head_lr_multiplier": 2.0, "weight_decay": 1e-3}})
    assert optim.optim.learning_rate == 500.0


@pytest.mark.parametrize("decay", [0.0, 0.8, 0.95, 1.05, 2.0])
def test_adam_moves_by_less_than_eight_rates(decay):
    """Gradients that grow and shrink as they like, and the moments in numpy: |m| / sqrt(v), corrected, is below 8."""
    m = v = 0.0
    for step in range(1, 200):
        gradient = 1e-3 * decay ** (step % 40) * (-1 if step % 7 == 0 else 1)
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        assert abs(m / (1 - 0.9**step)) < 8 * np.sqrt(v / (1 - 0.999**step)) + 1e-30
