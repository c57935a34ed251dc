"""`demega-jax stack`: base models of several levels, and a model that learns to combine them."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from demega_jax.api.paths import check_inputs, check_out, check_outputs, check_there
from demega_jax.commands.shared.options import THERE, Data, Devices, Json, Overrides, level_option
from demega_jax.commands.shared.process import Process, prepare_process, set_numerics
from demega_jax.errors import UserError, counted
from demega_jax.saying import is_quiet, say, say_result

if TYPE_CHECKING:
    from demega_jax.config import Config
    from demega_jax.evaluation.stack.report import Stacked
    from demega_jax.evaluation.stack.stages import Say, StackPlan
    from demega_jax.training.signals import Signals

EXAMPLES = """demega-jax stack --base sweeps/first/level_5 --base sweeps/first/level_100 --run stacks/first

demega-jax stack configs/regroup.yaml --data recordings --level 5,20,100 --run stacks/second"""

ConfigFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="CONFIG", help="YAML configuration of base models that are trained here.", show_default=False
    ),
]
Base = Annotated[
    list[Path] | None,
    typer.Option("--base", metavar="RUN", help="A training run as a base model; repeat the option for each."),
]
Level = Annotated[list[str] | None, level_option("Train a base model of each of these levels", THERE)]
Run = Annotated[Path, typer.Option("--run", metavar="DIR", help="Folder of the stack.")]
Split = Annotated[Literal["validation", "test"], typer.Option(help="Score this split too.")]
InSample = Annotated[
    bool, typer.Option("--in-sample", help="Fit the stackers on all validation rows and score them there.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the stack in --run; finished stages stay.")]


def command(
    ctx: typer.Context,
    run: Run,
    config: ConfigFile = None,
    overrides: Overrides = None,
    base: Base = None,
    data: Data = None,
    level: Level = None,
    split: Split = "validation",
    in_sample: InSample = False,
    resume: Resume = False,
    devices: Devices = None,
    json_file: Json = None,
) -> int:
    """Learn to combine the logits of base models of several levels, and compare that with averaging them."""
    process: Process = ctx.obj
    check_inputs(config, data)
    check_outputs(json_file)
    for path in base or ():
        check_there(path, "the folder of a training run", folder=True)
    check_out(run)
    plan = _plan(run, config, overrides or [], base or [], data, level, in_sample, devices)
    from demega_jax.evaluation.plan_file import undone_on_failure

    with undone_on_failure(plan.file):
        plan.begin_or_join(join=resume)
        prepare_process(process, devices or 1)
        set_numerics(process, plan.config)
        return _run(plan, split, json_file)


def _plan(
    run: Path,
    file: Path | None,
    overrides: list[str],
    base: list[Path],
    data: str | None,
    level: list[str] | None,
    in_sample: bool,
    devices: int | None,
) -> "StackPlan":
    """What is asked for. UserError: base models are given and to be trained, or neither."""
    from demega_jax.api.asked import absolute_paths, changed, with_levels
    from demega_jax.config.load import load_config
    from demega_jax.evaluation.stack.stages import StackPlan
    from demega_jax.training.run import RunFolder

    if bool(base) == (file is not None):
        came = "given beside CONFIG" if base else "neither --base nor CONFIG is given"
        way_out = "give --base for each training run, or CONFIG with --level to train base models"
        raise UserError("--base", came, "one of the two", way_out)
    if base and level:
        raise UserError("--level", "given beside --base", "only one of the two", "set stack.level for the rows")
    if base and devices is not None:
        came = "given beside --base, where nothing is trained on several devices"
        raise UserError("--devices", came, "CONFIG, whose base models are trained here", "leave out --devices")
    configs = [RunFolder(path).read_config() for path in base]
    first: Config = configs[0] if file is None else load_config(file)
    asked = absolute_paths(changed(first, overrides, {"data.path": ("--data", data)}))
    if file is not None:
        asked = with_levels(asked, level, overrides, asked.data)
        levels = asked.data.levels or ()
    else:
        levels = tuple(sorted({level for config in configs for level in config.data.levels or ()}))
    if file is not None and len(levels) < 2:
        raise UserError(
            "--level", counted(len(levels), "level"), "two levels or more", "write --level 5,20,100, for example"
        )
    if len(base) == 1:
        raise UserError("--base", "one base model", "two or more", "give --base once more")
    return StackPlan(run, asked, tuple(base), levels, in_sample, devices)


def _run(plan: "StackPlan", split: str, json_file: Path | None) -> int:
    from demega_jax.console import new_console
    from demega_jax.evaluation.stack.page import write_stack_report
    from demega_jax.evaluation.stack.report import print_report
    from demega_jax.files import held, write_json, write_results, write_text
    from demega_jax.training.quiet import quiet_failed_saves
    from demega_jax.training.signals import Interrupted, Signals

    console, signals = new_console(), Signals()
    quiet_failed_saves()
    way_out = "wait until that process has ended, or choose another --run"
    other = UserError(plan.folder, "another process makes a stack in it", "one process for a stack", way_out)
    with signals.noted(), held(plan.folder / ".lock", other):
        try:
            found = _stages(plan, split, signals, console.print)
        except Interrupted as interrupted:
            console.print("interrupted and saved; run the same command with --resume to continue")
            return interrupted.status
    written = io.StringIO()
    text = new_console(file=written, width=100)
    for report in found.reports:
        print_report(report, console)
        print_report(report, text)
    write_text(plan.folder / "report.txt", written.getvalue(), "choose another --run")
    content = {"splits": [report.to_json() for report in found.reports]}
    write_json(plan.folder / "report.json", content)
    page = write_stack_report(plan, found.reports, found.scores)
    (say_result if is_quiet() else say)(f"report {page}")
    if json_file is not None:
        write_results(json_file, content)
    return 0


def _stages(plan: "StackPlan", split: str, signals: "Signals", say: "Say") -> "Stacked":
    """Do the stages that are missing; returns what validation and the split that is asked for say of the stack."""
    from demega_jax.evaluation.runs import load_runs
    from demega_jax.evaluation.stack.report import choose, stacked
    from demega_jax.evaluation.stack.stages import (
        check,
        features_of,
        fit_stackers,
        train_bases,
        validation_or_test,
    )
    from demega_jax.evaluation.stack.store import Description, write_stackers

    check(plan)
    train_bases(plan, signals, say)
    models = load_runs(plan.bases())
    found = {name: validation_or_test(plan, models, name, say) for name in dict.fromkeys(("validation", split))}
    fitted = fit_stackers(plan, found["validation"], signals, say)
    chosen = choose(features_of(found["validation"]), fitted)
    arrays = write_stackers(plan.folder, fitted)
    bases = tuple(str(path.absolute()) for path in plan.bases())
    steps = tuple(model.steps for model in models)
    about = Description(bases, models[0].classes, plan.level, chosen, plan.fitted, plan.config.stack, steps, arrays)
    about.write(plan.folder)
    return stacked(plan, found, fitted, chosen)
