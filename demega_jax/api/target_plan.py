"""What `train --dry-run --target` says: whether a training run fits a device that is not here."""

import jax

from demega_jax.api.describe import make_console, parameters_of
from demega_jax.benchmark.targets.devices import TARGETS
from demega_jax.benchmark.targets.modelled import LIMITS
from demega_jax.benchmark.targets.programs import compile_for, lower_train, placement_on
from demega_jax.config import Config
from demega_jax.data.open import open_training
from demega_jax.files import format_bytes
from demega_jax.training.memory import StepMemory, batch_that_fits
from demega_jax.training.parallel import check_batch
from demega_jax.training.setup import make_experiment


def print_target_plan(config: Config, name: str, devices: int) -> None:
    """Compile the dispatch of a training run for a target, and print its memory, the largest batch that fits it, and
    the modelled time. UserError: a batch that the devices cannot share, or the extra aot is missing."""
    target, batch_size = TARGETS[name], config.train.batch_size
    multiple = devices * config.train.accumulate
    check_batch(batch_size, devices, config.train.accumulate)
    experiment = make_experiment(config, open_training(config), placement_on(target, devices))
    plan = experiment.data.plan
    found, _ = compile_for(lower_train(experiment), target, devices)
    state = jax.eval_shape(experiment.fresh_state)
    kept = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)) + plan.device_bytes(devices)
    need = StepMemory(kept, max(0, found.memory - kept))
    fits = need.total <= target.memory
    largest = batch_that_fits(need, target.memory, batch_size, multiple)
    steps = experiment.config.train.steps_per_dispatch
    rows = {
        "target": f"{devices} x {target.title}, which is not here",
        "parameters": parameters_of(experiment),
        "steps": f"{experiment.total_steps}, {experiment.steps_per_epoch} an epoch, of {batch_size} rows",
        "memory": f"{format_bytes(need.total)} of {format_bytes(target.memory)} on each device, of which the feed "
        f"{format_bytes(plan.device_bytes(devices))}: {'fits' if fits else 'does NOT fit'}",
        "largest train.batch_size that fits": f"about {largest:,}" if largest else "none",
        "modelled step": f"{found.seconds / steps * 1e3:.2f} ms (floor {found.floor_seconds / steps * 1e3:.2f} ms)",
        "compiled in": f"{found.compile_seconds:.1f} s",
        "limits": LIMITS,
    }
    console = make_console()
    for key, value in rows.items():
        console.print(f"# {key}: {value}")
