"""What does not fit on the devices is refused, with every way out that there is."""

from types import SimpleNamespace

import pytest
from helpers.errors import refused

from demega_jax.data.feeds.shares import check_fits


def devices(free: int | None) -> SimpleNamespace:
    return SimpleNamespace(devices=2, free_bytes=lambda: free)


@pytest.mark.parametrize(
    ("ways_out", "sentence"),
    [(["a"], "Use a."), (["a", "b"], "Use a, or b."), (["a", "b", "c"], "Use a, b, or c.")],
)
def test_too_many_bytes(ways_out, sentence):
    with refused("resident", "3.0 KiB", "2.0 KiB", "2 devices") as caught:
        check_fits("resident", "the rows", 3072, devices(2048), ways_out)
    assert str(caught.value).endswith(f" {sentence}")


@pytest.mark.parametrize("free", [None, 3072])
def test_what_fits_or_cannot_be_known(free):
    check_fits("resident", "the rows", 3072, devices(free), ["a"])
