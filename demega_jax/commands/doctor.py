"""`demega-jax doctor`: whether this machine and this installation can train, and what to do where they cannot."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from demega_jax import __version__
from demega_jax.api.paths import check_outputs
from demega_jax.commands.shared.options import Json
from demega_jax.commands.shared.process import Process, ending_at_once, prepare_process, set_numerics
from demega_jax.errors import UserError, listed
from demega_jax.files import write_results

if TYPE_CHECKING:
    from demega_jax.benchmark.doctor.finding import Finding
    from demega_jax.benchmark.doctor.system import Places

EXAMPLES = """demega-jax doctor

demega-jax doctor --data data --offline --json doctor.json"""
FORMAT = 1

Data = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Data folder to look at (default: data, if it is there).")
]
Offline = Annotated[bool, typer.Option("--offline", help="Do not ask the hub, as with HF_HUB_OFFLINE=1.")]


def command(ctx: typer.Context, data: Data = None, offline: Offline = False, json_file: Json = None) -> int:
    """Say whether this machine can train: a line for each finding, and what to do.

    The exit status is 2 if something is broken. A device that does not answer for 300 s ends it.
    """
    check_outputs(json_file)
    from demega_jax.api.shown import status_line
    from demega_jax.benchmark.doctor.watch import NoAnswer
    from demega_jax.console import new_console

    console = new_console(soft_wrap=True)
    findings: list[Finding] = []
    hangs = False
    with ending_at_once(ctx.obj), status_line(console) as tell:

        def show(finding: "Finding") -> None:
            findings.append(finding)
            for line in finding.lines(console.width):
                console.print(line)

        try:
            for finding in _findings(ctx.obj, data, offline=offline):
                show(finding)
                tell("looking further")
        except NoAnswer as silent:
            show(silent.finding)
            hangs = True
    broken = [finding for finding in findings if finding.grade == "broken"]
    if json_file is not None:
        content = {"format": FORMAT, "version": __version__, "sound": not broken}
        write_results(json_file, content | {"findings": [finding.to_json() for finding in findings]})
    if broken:
        names = listed(dict.fromkeys(finding.name for finding in broken))
        came = f"{len(broken)} of {len(findings)} findings are broken ({names})"
        error = UserError("demega-jax doctor", came, "none", "do what the lines below each of them say")
        if hangs and ctx.obj.own:  # an ordinary end of the process would wait for the device, too
            from demega_jax.training.together import end_at_once

            end_at_once(f"error: {error}")
        raise error
    return 0


def _findings(process: Process, data: Path | None, *, offline: bool) -> "Iterator[Finding]":
    """All findings, in the order in which one builds on another."""
    from demega_jax.api.jax_environment import has_libtpu, plugins
    from demega_jax.benchmark.doctor.folders import check_cache, check_data, check_writing
    from demega_jax.benchmark.doctor.hub import check_hub
    from demega_jax.benchmark.doctor.software import check_accelerators, check_variables, check_versions
    from demega_jax.benchmark.doctor.system import Places, check_cores, check_limits, check_memory
    from demega_jax.data.hub.download import GROUPED_REPO

    places, there = Places(), plugins()
    yield from check_versions()
    yield from check_variables()
    yield from check_cores(places)
    yield from check_memory(places)
    yield from check_limits()
    yield from check_writing()
    yield from check_cache()
    yield from check_data(data)
    yield from check_hub(GROUPED_REPO, offline=offline)
    yield from check_accelerators(places, there, has_libtpu())
    yield from _of_jax(process, places, cuda=any("cuda" in name for name in there))


def _of_jax(process: Process, places: "Places", *, cuda: bool) -> "Iterator[Finding]":
    """What jax finds, and what it computes."""
    from demega_jax.api.jax_environment import without_device
    from demega_jax.benchmark.doctor.finding import of_error
    from demega_jax.config import Config

    prepare_process(process)
    try:
        set_numerics(process, Config())
        from demega_jax.benchmark.doctor.devices import check_devices, check_kernels, check_precision, check_training

        yield from check_devices(places, cuda=cuda, asked=bool(os.environ.get("JAX_PLATFORMS")))
    except UserError as error:
        yield of_error("jax", error)
        return
    except RuntimeError as error:
        if (refused := without_device(error)) is None:
            raise
        yield of_error("devices", refused)
        return
    import jax

    yield from check_precision(jax.local_devices()[0])
    yield from check_training(jax.local_devices())
    yield from check_kernels(jax.local_devices())
