"""`demega-jax evaluate`: scores of a training run on a whole split."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Context, Option

from demega_jax.commands.shared.options import THERE, Json, Several, check_outputs, check_there, level_option
from demega_jax.commands.shared.process import ending_at_once, prepare_process, set_numerics

if TYPE_CHECKING:
    from demega_jax.config import DataConfig

EXAMPLES = "demega-jax evaluate runs/first --split test --json test.json"

LEVELS = "Grouping level, or several together (default: as in training)"
DATA = "Folder that holds grouped_K, or recordings (default: as in training)."
SPLITS = "File splits.json for recordings (default: as in training)."


def command(
    ctx: Context,
    run: Annotated[Path, Argument(metavar="RUN", help="Folder of a training run.")],
    data: Annotated[str | None, Option(metavar="DIR", help=DATA)] = None,
    level: Annotated[Several, level_option(LEVELS, THERE)] = None,
    split: Annotated[Literal["validation", "test"], Option(help="Split to score.")] = "validation",
    splits: Annotated[Path | None, Option(metavar="FILE", help=SPLITS)] = None,
    json_file: Json = None,
) -> int:
    """Score the best checkpoint of a training run on a whole split."""
    check_there(run, "the folder of a training run", folder=True)
    check_outputs(json_file)
    from demega_jax.commands.shared.config import changed, check_levels, with_levels
    from demega_jax.training.run import RunFolder

    config = RunFolder(run).read_config()
    given = {"data.path": ("--data", data), "data.regroup.splits": ("--splits", splits and str(splits))}
    asked = changed(config, (), given)
    prepare_process(ctx.obj)
    asked = with_levels(asked, level, (), asked.data)
    check_levels(asked)
    with ending_at_once(ctx.obj):  # jax's callbacks swallow a KeyboardInterrupt that is raised in them
        set_numerics(ctx.obj, config)
        score(run, asked.data, split, json_file)
    return 0


def score(run: Path, data: "DataConfig", name: str, json_file: Path | None) -> None:
    """Print the scores of the best checkpoint on a split of `data.path`, and write them as JSON where asked."""
    import jax
    from rich.console import Console

    from demega_jax.data.open import open_split
    from demega_jax.data.spread import check_spread
    from demega_jax.evaluation.evaluate import evaluate_split, make_evaluate_step
    from demega_jax.evaluation.predict import load
    from demega_jax.evaluation.report import print_scores
    from demega_jax.files import write_json
    from demega_jax.training.parallel import make_placement

    model = load(run)
    config = model.config
    split = open_split(Path(data.path or ""), name, data, classes=model.classes, expect_shape=model.window)
    check_spread(split, config.model.input_norm)
    devices = jax.device_count()
    batch_size = -(-config.train.batch_size // devices) * devices
    placement = make_placement("jit", devices, batch_size)
    step = make_evaluate_step(config, model.graphdef, model.class_counts, split, members=model.members)
    params, buffers = placement.replicate((model.params, model.buffers))
    scores = evaluate_split(placement.compile_evaluate(step), params, buffers, split, config, placement, batch_size)
    if json_file is not None:
        write_json(json_file, scores.to_json() | {"run": str(run), "split": name})
    listed = ", ".join(map(str, model.steps))
    which = f"mean of {len(model.steps)} members, steps {listed}" if model.members else f"step {listed}"
    print_scores(scores, title=f"{run} on {name}, {which}", console=Console())
