"""The losses of the self-test are those of the original mathematics, and a device that computes wrongly is told."""

import dataclasses
import math
import threading

import jax
import numpy as np
import pytest

from demega_jax.benchmark.doctor import devices, self_test, watch
from demega_jax.config.load import override


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, pytest.param(3, marks=pytest.mark.long)])
def test_a_sound_device_passes(count):
    """With three devices, two rows of padding make the parts equal, and change nothing."""
    result = self_test.run(jax.devices()[:count])
    np.testing.assert_allclose(result.losses, self_test.EXPECTED, rtol=1e-5)
    assert result.passed and result.tolerance == 1e-5
    assert result.losses[0] > result.losses[-1] + 1  # it learns


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"model.dtype": "bfloat16"}, {"loss.contrastive_temperature": 0.030003}])
def test_what_is_computed_less_exactly_does_not_pass(changes):
    """A number type with 8 bits, and one constant of a loss that is off by one part in 10,000."""
    asked = override(self_test.config(), changes, "test")
    result = self_test.run(jax.devices()[:1], asked)
    assert not result.passed and 1e-5 < result.difference < 0.1


def test_losses_that_are_no_numbers_do_not_pass(monkeypatch):
    monkeypatch.setattr(self_test, "_losses", lambda asked, placement: (math.nan, *self_test.EXPECTED[1:]))
    assert not self_test.run(jax.devices()[:1]).passed


def test_kernels_are_looked_at_where_there_are_some(monkeypatch):
    """On a CPU there are none. Steps by kernels, which a CPU makes by plain products, have the same losses."""
    cpu = jax.devices()[:1]
    assert list(devices.check_kernels(cpu)) == []
    monkeypatch.setattr(devices, "KERNELS_ON", ("cpu",))
    (finding,) = devices.check_kernels(cpu)
    assert (finding.name, finding.grade) == ("kernels", "ok") and "model.attention=fused" in finding.found

    def fail(group, asked):
        assert asked.model.attention == "fused"
        raise NotImplementedError("no lowering\nfor this card")

    monkeypatch.setattr(self_test, "run", fail)
    (finding,) = devices.check_kernels(cpu)
    assert finding.grade == "warning" and "no lowering for this card" in finding.found and "plain" in finding.way_out


def test_each_device_alone_and_all_together(monkeypatch):
    """A device that is wrong is named; so is what goes wrong only between them."""
    three, right = jax.devices()[:3], self_test.Result(self_test.EXPECTED, 0.0, 1e-5)

    def run(group):
        if group == [three[1]]:
            return dataclasses.replace(right, difference=0.5)
        if len(group) == 3:
            raise jax.errors.JaxRuntimeError("INTERNAL: no connection\nbetween them")
        return right

    monkeypatch.setattr(self_test, "run", run)
    found = list(devices.check_training(three))
    assert [finding.grade for finding in found] == ["ok", "broken", "ok", "broken"]
    assert "cpu:1 alone" in found[1].found and found[1].way_out
    assert "3 devices together" in found[3].found and "no connection between them" in found[3].found


def test_a_device_that_hangs_is_named(monkeypatch):
    """The first answers, and the second does not: the third is not asked any more."""
    three, right = jax.devices()[:3], self_test.Result(self_test.EXPECTED, 0.0, 1e-5)
    late, asked = threading.Event(), []

    def run(group):
        asked.append(group)
        if group == [three[1]]:
            late.wait()
        return right

    monkeypatch.setattr(self_test, "run", run)
    monkeypatch.setattr(watch, "SECONDS", 0.2)
    found = devices.check_training(three)
    assert next(found).grade == "ok"
    with pytest.raises(watch.NoAnswer) as silent:
        next(found)
    late.set()
    finding = silent.value.finding
    assert (finding.name, finding.grade) == ("self-test", "broken") and finding.way_out
    assert "cpu:1 alone: no answer within 0 s" in finding.found
    assert asked == [[three[0]], [three[1]]]


def test_what_an_answer_raises_is_raised():
    for error in (ValueError("wrong"), TimeoutError("of its own")):

        def ask(error=error):
            raise error

        with pytest.raises(type(error), match=str(error)):
            watch.answer("x", "y", ask)


def test_products(monkeypatch):
    """Against numpy in float64; where the operands are rounded to bfloat16, as a wrong setting does, it is told."""
    (sound,) = devices.check_precision(jax.devices()[0])
    assert sound.grade == "ok"
    matmul = jax.numpy.matmul
    monkeypatch.setattr(jax.numpy, "matmul", lambda a, b, precision: matmul(a.astype("bfloat16"), b.astype("bfloat16")))
    (wrong,) = devices.check_precision(jax.devices()[0])
    assert wrong.grade == "broken" and wrong.way_out


def test_devices_are_named(tmp_path):
    from demega_jax.benchmark.doctor.system import Places

    places = Places(*(tmp_path / name for name in ("proc", "cgroup", "pci", "dev")))
    (found,) = devices.check_devices(places, cuda=True, asked=False)
    assert (found.grade, found.found) == ("ok", "8 x cpu")
    places.dev.mkdir()
    (places.dev / "nvidia0").touch()
    assert [one.grade for one in devices.check_devices(places, cuda=True, asked=True)] == ["ok"]
    first, second = devices.check_devices(places, cuda=True, asked=False)
    assert second.grade == "broken" and "GPU" in second.found
