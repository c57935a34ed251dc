"""What the configurations for single cards say of memory and time: by hand, by the plan, and by the committed model."""

import json
import re

import pytest
from helpers import ROOT

from demega_jax.benchmark.cases import TIME_POINTS
from demega_jax.benchmark.simulated import noise_split
from demega_jax.config.load import load_config
from demega_jax.data.combined import combine
from demega_jax.data.open import plan_rows
from demega_jax.names import PHONEMES, PUBLISHED_SENSORS

# Name: (groups of 1.6 M phonemes, bytes of a number on the device, modelled program in benchmarks/results).
CARDS = {
    "grouped_5": (320_000, 2, "targets.json"),
    "grouped_20": (80_000, 4, "targets.json"),
    "grouped_100": (16_000, 4, "config_grouped_100.json"),
    "gpu_24gb": (80_000, 2, "config_gpu_24gb.json"),
    "gpu_16gb": (80_000, 2, "config_gpu_16gb.json"),
}
BLOCK = 250  # rows, which divide all of them
GIB = 2**30


@pytest.fixture(scope="module")
def block():
    return noise_split(BLOCK, PUBLISHED_SENSORS, TIME_POINTS)


def config_text(name: str) -> str:
    """A configuration as text, without the signs of comments."""
    lines = (ROOT / "configs" / f"{name}.yaml").read_text().splitlines()
    return " ".join(line.removeprefix("#").strip() for line in lines)


def facts(name: str) -> dict[str, str]:
    """The numbers in the comment of a configuration, with what each is of."""
    text = config_text(name)
    patterns = {
        "groups": r"([\d,]+) groups in train",
        "precision": r"in (single|half) precision",
        "held": r"\(([\d.]+) GiB\)",
        "target": r"modelled: one ([\w ]+?),",
        "step": r"([\d.]+) ms a step",
        "memory": r"([\d.]+) GiB in all",
        "steps": r"([\d,]+) steps",
        "epochs": r"([\d,]+) epochs",
        "minutes": r"are ([\d.]+) min",
    }
    found = {key: re.search(pattern, text) for key, pattern in patterns.items()}
    assert all(found.values()), [key for key, match in found.items() if match is None]
    return {key: match[1].replace(",", "") for key, match in found.items() if match}


@pytest.mark.parametrize("name", CARDS)
def test_comments_agree_with_the_plan_and_with_the_model(name, block):
    groups, nbytes, file = CARDS[name]
    said, config = facts(name), load_config(ROOT / "configs" / f"{name}.yaml")
    result = json.loads((ROOT / "benchmarks" / "results" / file).read_text())
    case, model = result["targets"][0], result["config"]["model"]
    assert file in config_text(name)
    now = config.model.model_copy(update={"classes": PHONEMES}).with_ipa().model_dump(mode="json") | {"classes": None}
    assert model | {"dtype": case["precision"], "ipa_width": 64} == now
    assert (case["batch_size"], case["members"]) == (config.train.batch_size, config.train.members)

    held = groups * 306 * 125 * nbytes
    plan = plan_rows(config, combine([block] * (groups // BLOCK), block.path))
    assert plan.device_bytes(1) == held
    assert (int(said["groups"]), said["held"]) == (groups, f"{held / GIB:.1f}")
    assert said["precision"] == {2: "half", 4: "single"}[nbytes]

    memory = case["memory_bytes"] - case["feed_memory_bytes"] + held
    assert said["memory"] == f"{memory / GIB:.1f}" and memory < 0.95 * case["device_memory_bytes"]
    each = config.train.steps_per_dispatch
    steps = -(-config.train.epochs * plan.steps_per_epoch // each) * each
    assert (int(said["steps"]), int(said["epochs"])) == (steps, config.train.epochs)
    assert said["step"] == f"{case['modelled_step_ms']:.1f}" and said["target"].split()[-1] in case["title"]
    assert said["minutes"] == f"{steps * case['modelled_step_ms'] / 60e3:.1f}"
