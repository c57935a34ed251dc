"""`inspect`. Amplitudes and the order of sensors that they show, against numpy."""

import numpy as np
import pytest
from helpers.data import write_grouped
from helpers.errors import assert_facts

from demega_jax.data.inspect.amplitude import measure, sensor_order
from demega_jax.data.inspect.folder import inspect_data


def test_large_file_is_sampled_from_end_to_end(tmp_path):
    rows = 32 * 100
    x = np.zeros((rows, 3, 2), np.float32) + np.arange(rows, dtype=np.float32)[:, None, None]  # a row holds its number
    path, groups = tmp_path / "train_grouped.h5", np.arange(rows)[:, None]
    (report,) = inspect_data(write_grouped(path, x, np.arange(rows) % 39, groups=groups))
    amplitude = report.facts.amplitude
    assert amplitude.sampled == 16 * 32 * 2
    assert amplitude.types[0].largest == rows - 1
    assert amplitude.types[0].median == pytest.approx(x.std(), rel=0.1)


def test_measure_stops_in_time_and_finds_what_is_still_or_not_finite():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 1000)) * np.array([3, 4, 1, 3, 0, 1])[:, None]
    x[3] *= 1e-6
    x[1, 7] = np.nan
    found = measure([x[:, :500], x[:, 500:]], types=["grad", "grad", "mag"] * 2)
    assert found.sampled == 1000 and found.not_finite == (1,)
    assert {kind.name: kind.near_constant for kind in found.types} == {"grad": (3, 4), "mag": ()}
    assert found.types[1].median == pytest.approx(x[[2, 5]].std(axis=1).mean(), rel=1e-6)
    assert measure([x[:, :500], x[:, 500:]], seconds=0).sampled == 500


@pytest.mark.parametrize(
    "small, verdict, facts",
    [
        (range(2, 30, 3), "holds", ["2, 5, 8", "times smaller"]),
        (range(0, 30, 3), "does not hold", ["times smaller", "0, 3, 6", "not", "2, 5, 8"]),
        (range(20, 30), "does not hold", ["times smaller", "20 to 29", "not", "2, 5, 8"]),
        ([i for i in range(30) if i % 3 != 2], "holds", ["2, 5, 8", "times larger"]),
        ([], "cannot tell", ["standardised"]),
        ([4, 5], "cannot tell", ["third"]),
    ],
)
def test_sensor_order_by_amplitude(small, verdict, facts):
    deviation = np.exp(0.2 * np.random.default_rng(3).standard_normal(30))
    deviation[[i in small for i in range(30)]] /= 15
    got, reason = sensor_order(deviation)
    assert got == verdict
    assert_facts(reason, *facts)


def test_factor_between_sensor_types_is_that_of_their_medians():
    deviation = np.where(np.arange(30) % 3 == 2, 0.25, 4.0)
    verdict, reason = sensor_order(deviation)
    assert verdict == "holds"
    assert_facts(reason, "2, 5, 8", "16 times smaller")


def test_dead_sensors_do_not_decide_the_order_and_few_sensors_cannot():
    deviation = np.where(np.arange(30) % 3 == 2, 0.06, 1.0)
    deviation[[0, 3]] = 0
    assert sensor_order(deviation)[0] == "holds"
    assert sensor_order(np.ones(3))[0] == sensor_order(np.ones(8))[0] == "cannot tell"
