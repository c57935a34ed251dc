"""`demega-jax import-torch`: a checkpoint of the published PyTorch system as a run folder."""

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated

import typer

from demega_jax.api.paths import check_out, check_there
from demega_jax.commands.shared.options import Overrides
from demega_jax.commands.shared.process import ending_at_once, prepare_process, set_numerics

EXAMPLES = """demega-jax import-torch epoch=12.ckpt runs/published

demega-jax import-torch epoch=12.ckpt runs/sides 'model.classes=[left, right]' data.level=100"""

Checkpoint = Annotated[
    Path, typer.Argument(metavar="CKPT", help="Lightning checkpoint, or a .safetensors file of export-torch.")
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="New run folder.")]


def command(ctx: typer.Context, checkpoint: Checkpoint, run: Run, overrides: Overrides = None) -> int:
    """Make a run folder of a checkpoint of the published PyTorch system, or of a file of export-torch."""
    check_there(checkpoint, "a checkpoint", folder=False)
    from demega_jax.config import Config
    from demega_jax.config.load import check_keys, parse_overrides
    from demega_jax.files import check_new_folder

    check_new_folder(run, "choose another RUN")
    check_out(run)
    changes = parse_overrides(overrides or [])
    check_keys(changes, "command line")
    prepare_process(ctx.obj)
    with ending_at_once(ctx.obj):
        set_numerics(ctx.obj, Config())
        import_file(checkpoint, run, changes)
    return 0


def import_file(checkpoint: Path, run: Path, changes: dict[str, object]) -> None:
    """Read, convert and write, and say what came of it."""
    from demega_jax.api.asked import absolute_paths
    from demega_jax.console import new_console
    from demega_jax.interop.torch_file import read
    from demega_jax.interop.torch_import import convert, write_run
    from demega_jax.model.demega import parameter_count
    from demega_jax.training.quiet import quiet_failed_saves

    quiet_failed_saves()
    file = read(checkpoint)
    model = convert(file, changes)
    model = dataclasses.replace(model, config=absolute_paths(model.config))
    write_run(model, file, run)
    console = new_console(soft_wrap=True)
    used = len(file.tensors) - len(model.unused)
    console.print(f"{run}: {parameter_count(model.params):,} parameters from {used} tensors, step {file.step}")
    if model.unused:
        console.print(f"not used, as in the published system: {', '.join(model.unused)}")
    data = [] if model.config.data.path else ["--data", "DIR"]
    console.print(f"next  {shlex.join(['demega-jax', 'evaluate', str(run), *data])}")
