"""`demega-jax export-torch`: a training run as a state dict of the published PyTorch system."""

from pathlib import Path
from typing import Annotated

import typer

from demega_jax.api.paths import check_outputs, check_replaced, check_there
from demega_jax.commands.shared.options import Force
from demega_jax.commands.shared.process import ending_at_once, prepare_process, set_numerics
from demega_jax.saying import say

EXAMPLES = "demega-jax export-torch runs/first first.safetensors"

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a training run.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="New .safetensors file.")]


def command(ctx: typer.Context, run: Run, file: File, force: Force = False) -> int:
    """Write the best checkpoint of a training run as a state dict of the published PyTorch system."""
    check_there(run, "the folder of a training run", folder=True)
    _check_name(file)
    check_outputs(file)
    check_replaced(file, _is_exported, force=force)
    from demega_jax.training.run import RunFolder

    config = RunFolder(run).read_config()
    prepare_process(ctx.obj)
    with ending_at_once(ctx.obj):
        set_numerics(ctx.obj, config)
        from demega_jax.interop.torch_export import export, write
        from demega_jax.training.quiet import quiet_failed_saves

        quiet_failed_saves()
        exported = export(run)
        write(exported, file)
    say(f"{file}: {len(exported.tensors)} tensors, step {exported.step}")
    if exported.unused:
        say(f"not used, but expected by the published system: {', '.join(exported.unused)}")
    return 0


def _is_exported(head: bytes) -> bool:
    return b'"demega_jax"' in head  # in the metadata, with which the file begins


def _check_name(file: Path) -> None:
    """UserError: the name of the file does not say what it is."""
    if file.suffix != ".safetensors":
        from demega_jax.errors import UserError

        came, wanted = "a name that does not end in .safetensors", "a .safetensors file"
        raise UserError(file, came, wanted, f"name it {file.name}.safetensors")
