"""`demega-jax evaluate`: scores of training runs on a whole split."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from demega_jax import __version__
from demega_jax.commands.shared.jax_environment import import_jax
from demega_jax.commands.shared.options import Json, check_outputs
from demega_jax.commands.shared.predicting import (
    Asked,
    Denoise,
    EnsembleOption,
    Runs,
    Seed,
    Tta,
    check_idle,
    expand,
    open_models,
)
from demega_jax.commands.shared.process import Process, ending_at_once, prepare_process
from demega_jax.commands.shared.processes import Coordinator, Ours, Processes, ProcessId, Within, processes_of
from demega_jax.commands.shared.scoring import (
    Data,
    Level,
    Split,
    Splits,
    asked_config,
    check_report,
    open_scored,
    score,
)
from demega_jax.errors import warn

if TYPE_CHECKING:
    from demega_jax.config import Config
    from demega_jax.evaluation.model import Model
    from demega_jax.training.together import Together

EXAMPLES = """demega-jax evaluate runs/first --split test --json test.json --report

demega-jax evaluate runs/a runs/b --ensemble weighted --split test"""

Report = Annotated[bool, typer.Option("--report", help="Write figures and a page to RUN/report as well.")]


def command(
    ctx: typer.Context, runs: Runs, data: Data = None, level: Level = None, split: Split = "validation",
    splits: Splits = None, ensemble: EnsembleOption = "mean", tta: Tta = False, seed: Seed = 0,
    denoise: Denoise = False, json_file: Json = None, report: Report = False, coordinator: Coordinator = None,
    processes: Processes = None, process_id: ProcessId = None, join_within: Within = 60,
) -> int:  # fmt: skip
    """Score the best checkpoints of one or several training runs on a whole split."""
    check_outputs(json_file)
    check_idle(ctx, method=ensemble, tta=tta, weights_from_data=False)
    ours = processes_of(coordinator, processes, process_id, join_within)
    # jax's callbacks swallow a KeyboardInterrupt that is raised in them.
    with ending_at_once(ctx.obj), _taking_part(ctx.obj, ours) as together:
        if report:
            check_report(runs)
        bases, asked = expand(runs, Asked(ensemble, seed if tta else None, denoise))
        config = asked_config(bases[0], data, level or list(asked.levels), splits)
        _evaluate(open_models(ctx.obj, bases), config, split, asked, json_file, report, together)
    return 0


@contextlib.contextmanager
def _taking_part(process: Process, ours: Ours | None) -> "Iterator[Together | None]":
    """Within this block this process is one of several that evaluate together, if it is one."""
    if ours is None:
        yield None
        return
    prepare_process(process)
    import_jax()
    from demega_jax.commands.shared.joined import check_same_command, joined

    with joined(ours) as together:
        check_same_command(together, process.words)
        yield together


def _evaluate(
    models: "Sequence[Model]", config: "Config", name: str, asked: Asked, json_file: Path | None, report: bool,
    together: "Together | None",
) -> None:  # fmt: skip
    """Print the scores on a split of `data.path`, and write them as JSON and as a report where asked.

    together: this process among several, of which the first prints and writes; None: it is alone.
    """
    from demega_jax.console import new_console
    from demega_jax.evaluation.ensemble_report import print_ensemble
    from demega_jax.evaluation.report.tables import print_scores
    from demega_jax.files import write_results

    split = open_scored(config.data, name, models, asked)
    if asked.method == "weighted" and name == "validation":
        warn("--ensemble weighted: the weights are fitted on the rows that are scored, so the score is too good")
    if together is not None:
        from demega_jax.commands.shared.joined import check_same_models, check_same_rows

        check_same_rows(together, split)
        check_same_models(together, models)
        placement, _ = models[0].placement(1)
        placement.connect(lambda: together.meet("devices"))
    scores, ensemble = score(models, split, config.data, asked)
    if together is not None and not together.leads:
        return
    if json_file is not None:
        runs = [model.name for model in models]
        content = scores.to_json() | {"run": runs[0] if len(runs) == 1 else runs, "split": name}
        content |= {
            "level": split.level or config.data.level,
            "data": str(split.path),
            "version": __version__,
            "steps": [step for model in models for step in model.steps],
        }
        write_results(json_file, content | ({} if ensemble is None else {"ensemble": ensemble.to_json()}))
    console = new_console()
    print_scores(
        scores, title=f"{', '.join(model.name for model in models)} on {name}, {_which(models)}", console=console
    )
    if ensemble is not None:
        print_ensemble(ensemble, console)
    if report:
        from demega_jax.evaluation.report.write import Evaluated, write_report

        (model,) = models
        found = Evaluated(model.name, model.config, model.steps, split, scores, ensemble, asked.method)
        console.print(f"report {write_report(found)}", soft_wrap=True)


def _which(models: "Sequence[Model]") -> str:
    """Which checkpoints are scored, in words."""
    steps = [step for model in models for step in model.steps]
    listed = ", ".join(map(str, steps))
    if len(steps) == 1:
        return f"step {listed}"
    which = f"mean of {len(steps)} members" if len(models) == 1 else f"{len(steps)} models"
    return f"{which}, steps {listed}"
