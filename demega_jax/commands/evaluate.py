"""`demega-jax evaluate`: scores of training runs on a whole split."""

from typing import Annotated

import typer

from demega_jax.api.paths import check_outputs
from demega_jax.commands.shared.options import Json
from demega_jax.commands.shared.predicting import Denoise, EnsembleOption, Runs, Seed, Tta, check_idle
from demega_jax.commands.shared.process import ending_at_once, prepare_process
from demega_jax.commands.shared.scoring import Data, Level, Split, Splits

EXAMPLES = """demega-jax evaluate runs/first --split test --json test.json --report

demega-jax evaluate runs/a runs/b --ensemble weighted --split test"""

Report = Annotated[bool, typer.Option("--report", help="Write figures and a page to RUN/report as well.")]


def command(
    ctx: typer.Context, runs: Runs, data: Data = None, level: Level = None, split: Split = "validation",
    splits: Splits = None, ensemble: EnsembleOption = "mean", tta: Tta = False, seed: Seed = 0,
    denoise: Denoise = False, json_file: Json = None, report: Report = False,
) -> int:  # fmt: skip
    """Score the best checkpoints of one or several training runs on a whole split."""
    check_outputs(json_file)
    check_idle(ctx, method=ensemble, tta=tta, weights_from_data=False)
    prepare_process(ctx.obj)
    from demega_jax.api.evaluate import evaluate
    from demega_jax.files import write_results

    with ending_at_once(ctx.obj):  # jax's callbacks swallow a KeyboardInterrupt that is raised in them
        found = evaluate(
            runs, data=data, level=level, split=split, splits=splits, ensemble=ensemble, tta=seed if tta else None,
            denoise=denoise, report=report, progress=False,
        )  # fmt: skip
        if json_file is not None:
            write_results(json_file, found.to_json())
        found.show()
    return 0
