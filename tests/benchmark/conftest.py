"""What tests of measurements share."""

import pytest

from demega_jax.benchmark.machine import COPIED


@pytest.fixture
def small_peaks(monkeypatch):
    """Peaks are measured on small arrays: that they are high matters to nobody here."""
    monkeypatch.setattr("demega_jax.benchmark.machine.SMALLEST", 512)
    monkeypatch.setattr("demega_jax.benchmark.machine.LONG_ENOUGH", 0.0)
    monkeypatch.setitem(COPIED, "cpu", 2**22)
