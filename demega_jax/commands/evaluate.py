"""`demega-jax evaluate`: scores of a run on a whole split."""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from demega_jax.commands.levels import parse_levels
from demega_jax.commands.train import set_numerics
from demega_jax.config.load import override
from demega_jax.data.open import open_split
from demega_jax.data.spread import check_spread
from demega_jax.errors import UserError
from demega_jax.evaluation.evaluate import evaluate_split, make_evaluate_step
from demega_jax.evaluation.predict import load
from demega_jax.evaluation.report import print_scores
from demega_jax.files import write_text
from demega_jax.training.parallel import make_placement
from demega_jax.training.run import RunFolder


def evaluate_command(arguments: argparse.Namespace) -> int:
    """Print, and write as JSON, the scores of a run's best checkpoint. Returns the exit status."""
    set_numerics(RunFolder(arguments.run).read_config())
    model = load(arguments.run)
    config = model.config
    folder = arguments.data or config.data.path
    if folder is None:
        raise UserError("--data", "no data folder", "the folder that holds grouped_K", "give --data DIR")
    asked: dict[str, Any] = {} if arguments.level is None else {"data.level": parse_levels(arguments.level)}
    if arguments.splits is not None:
        asked["data.regroup.splits"] = str(arguments.splits)
    data = override(config, asked, "command line").data
    split = open_split(Path(folder), arguments.split, data, classes=model.classes, expect_shape=model.window)
    check_spread(split, config.model.input_norm)
    devices = jax.device_count()
    batch_size = -(-config.train.batch_size // devices) * devices
    placement = make_placement("jit", devices, batch_size)
    step = make_evaluate_step(config, model.graphdef, model.class_counts, split, members=model.members)
    params, buffers = placement.replicate((model.params, model.buffers))
    scores = evaluate_split(placement.compile_evaluate(step), params, buffers, split, config, placement, batch_size)
    if arguments.json is not None:
        content = scores.to_json() | {"run": str(arguments.run), "split": arguments.split}
        write_text(arguments.json, json.dumps(content, indent=1) + "\n", "choose another --json")
    listed = ", ".join(map(str, model.steps))
    which = f"mean of {len(model.steps)} members, steps {listed}" if model.members else f"step {listed}"
    print_scores(scores, title=f"{arguments.run} on {arguments.split}, {which}", console=Console())
    return 0
