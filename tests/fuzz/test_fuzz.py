"""Odd input ends in a value or in one `UserError` of one line: `make fuzz` does 20,000 cases."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demega_jax.errors import UserError
from fuzz.inputs import KINDS


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "options"])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.randoms(use_true_random=False))
def test_odd_input_is_taken_or_refused(folder, kind, rng):
    try:
        KINDS[kind](rng, folder)
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 5000


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.randoms(use_true_random=False))
def test_odd_options_are_refused_with_one_line(folder, rng):
    try:
        KINDS["options"](rng, folder)
    except UserError as error:
        assert "\n" not in str(error)
