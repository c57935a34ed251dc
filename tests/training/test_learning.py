"""The tiny configuration learns: on simulated data it passes half of what the true matched filter reaches."""

import json

from demega_jax.cli import main


def test_tiny_passes_half_of_its_reference(tmp_path, capsys):
    data, run, out = (str(tmp_path / name) for name in ("data", "run", "scores.json"))
    shape = ["--sensors", "12", "--time-points", "25"]
    assert main(["simulate", data, "--level", "100", "--groups", "1600", *shape]) == 0
    assert main(["train", "configs/tiny.yaml", "--data", data, "--run", run, "--devices", "1"]) == 0
    assert main(["evaluate", run, "--split", "test", "--json", out]) == 0
    with open(out) as file:
        scores = json.load(file)
    assert scores["reference_macro_f1"] > 0.9
    assert scores["macro_f1"] > scores["reference_macro_f1"] / 2
    assert scores["chance"] < 0.03
