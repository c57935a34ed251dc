"""`demega-jax evaluate`: scores of training runs on a whole split."""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from demega_jax.api.jax_environment import import_jax
from demega_jax.api.paths import check_outputs
from demega_jax.commands.shared.options import Json
from demega_jax.commands.shared.predicting import Denoise, EnsembleOption, Runs, Seed, Tta, check_idle
from demega_jax.commands.shared.process import Process, ending_at_once, prepare_process
from demega_jax.commands.shared.processes import Coordinator, Ours, Processes, ProcessId, Within, processes_of
from demega_jax.commands.shared.scoring import Data, Level, Split, Splits

if TYPE_CHECKING:
    from demega_jax.data.split import Split as DataSplit
    from demega_jax.evaluation.model import Model
    from demega_jax.training.together import Together

EXAMPLES = """demega-jax evaluate runs/first --split test --json test.json --report

demega-jax evaluate runs/a runs/b --ensemble weighted --split test"""

Report = Annotated[bool, typer.Option("--report", help="Write figures and a page to RUN/report as well.")]


def command(
    ctx: typer.Context,
    runs: Runs,
    data: Data = None,
    level: Level = None,
    split: Split = "validation",
    splits: Splits = None,
    ensemble: EnsembleOption = "mean",
    tta: Tta = False,
    seed: Seed = 0,
    denoise: Denoise = False,
    json_file: Json = None,
    report: Report = False,
    coordinator: Coordinator = None,
    processes: Processes = None,
    process_id: ProcessId = None,
    join_within: Within = 60,
) -> int:
    """Score the best checkpoints of one or several training runs on a whole split."""
    check_outputs(json_file)
    check_idle(ctx, method=ensemble, tta=tta, weights_from_data=False)
    ours = processes_of(coordinator, processes, process_id, join_within)
    prepare_process(ctx.obj)
    from demega_jax.api.evaluate import evaluate_as_asked
    from demega_jax.files import write_results

    # jax's callbacks swallow a KeyboardInterrupt that is raised in them.
    with ending_at_once(ctx.obj), _taking_part(ctx.obj, ours) as together:
        leads = together is None or together.leads
        found = evaluate_as_asked(
            runs,
            None if together is None else functools.partial(_agree, together),
            data=data,
            level=level,
            split=split,
            splits=splits,
            ensemble=ensemble,
            tta=seed if tta else None,
            denoise=denoise,
            report=report and leads,
        )
        if leads and json_file is not None:
            write_results(json_file, found.to_json())
    if leads:
        found.show()  # when the others have ended, so that a reader who goes away, as `| head`, does not end them
    return 0


@contextlib.contextmanager
def _taking_part(process: Process, ours: Ours | None) -> "Iterator[Together | None]":
    """Within this block this process is one of several that evaluate together, if it is one."""
    if ours is None:
        yield None
        return
    import_jax()
    from demega_jax.commands.shared.joined import check_same_command, joined

    with joined(ours) as together:
        check_same_command(together, process.words)
        yield together


def _agree(together: "Together", splits: "Sequence[DataSplit]", models: "Sequence[Model]") -> None:
    """UserError: this process sees other rows or other models than process 0."""
    from demega_jax.commands.shared.joined import check_same_models, check_same_rows

    check_same_rows(together, *splits)
    check_same_models(together, models)
    placement, _ = models[0].placement(1)
    placement.connect(lambda: together.meet("devices"))
