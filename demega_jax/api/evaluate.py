"""`demega_jax.evaluate`: the scores of training runs on a whole split."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from demega_jax import __version__
from demega_jax.api.models import Asked, Method, Runs, config_of, expand, rows_to_fit, run_paths
from demega_jax.api.paths import PathLike, check_one_of, expanded_path, path_of
from demega_jax.api.scoring import asked_config, baseline_of, check_report, open_scored, score
from demega_jax.api.settings import settings_of
from demega_jax.errors import warn
from demega_jax.saying import Loudness, in_python, is_quiet, loudness, say_more, say_result

if TYPE_CHECKING:
    from demega_jax.api.asked import Levels
    from demega_jax.config import DataConfig
    from demega_jax.data.split import Split
    from demega_jax.evaluation.ensemble_report import EnsembleReport
    from demega_jax.evaluation.model import Model
    from demega_jax.metrics import Scores

Agree = Callable[["Sequence[Split]", "Sequence[Model]"], None]


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluateResult:
    """The scores of one training run, or of several together, on a split.

    scores: macro_f1, balanced_accuracy, accuracy, chance, loss, and arrays of classes: f1 [V], support [V], confusion
    [V, V] (true class, predicted class).  ensemble: of members or several runs: each of them, and each way to combine
    them.  runs, steps: whose checkpoints.  level: K of the rows, where there is one.  report: the page, if asked for.
    baseline: the scores without any brain data, of the classes ranked by how often training has them, if that is known.
    """

    scores: "Scores"
    ensemble: "EnsembleReport | None"
    runs: tuple[str, ...]
    steps: tuple[int, ...]
    split: str
    level: int | Sequence[int] | None
    data: str
    report: Path | None = None
    baseline: "Scores | None" = None

    def to_json(self) -> dict[str, Any]:
        """What `demega-jax evaluate --json` writes, in plain Python types."""
        content = self.scores.to_json() | {"run": self.runs[0] if len(self.runs) == 1 else list(self.runs)}
        from demega_jax.evaluation.baseline import baseline_json

        content |= {"baseline": baseline_json(self.baseline)}
        content |= {"split": self.split, "level": self.level, "data": self.data, "version": __version__}
        content["steps"] = list(self.steps)
        return content | ({} if self.ensemble is None else {"ensemble": self.ensemble.to_json()})

    def show(self) -> None:
        """Print the tables of classes and of models, and the summary last."""
        from demega_jax.console import new_console
        from demega_jax.evaluation.baseline import baseline_table
        from demega_jax.evaluation.ensemble_report import print_ensemble
        from demega_jax.evaluation.report.tables import print_scores

        title = f"{', '.join(self.runs)} on {self.split}, {self._which()}"
        if is_quiet():
            return say_result(f"{title}: macro-F1 {self.scores.macro_f1:.4f}, chance {self.scores.chance:.4f}")
        say_more(f"data {self.data}, level {self.level}, demega-jax {__version__}")
        console = new_console()
        print_scores(self.scores, title=title, console=console)
        if self.baseline is not None:
            console.print(baseline_table(self.baseline, self.scores))
        if self.ensemble is not None:
            print_ensemble(self.ensemble, console)
        if self.report is not None:
            console.print(f"report {self.report}", soft_wrap=True)

    def _which(self) -> str:
        """Which checkpoints were scored, in words."""
        listed = ", ".join(map(str, self.steps))
        if len(self.steps) == 1:
            return f"step {listed}"
        which = f"mean of {len(self.steps)} members" if len(self.runs) == 1 else f"{len(self.steps)} models"
        return f"{which}, steps {listed}"


@in_python
def evaluate(
    runs: Runs,
    *,
    data: PathLike | None = None,
    level: "Levels | None" = None,
    split: Literal["validation", "test"] = "validation",
    splits: PathLike | None = None,
    ensemble: Method = "mean",
    tta: int | None = None,
    denoise: bool = False,
    report: bool = False,
    progress: bool = True,
) -> EvaluateResult:
    """Score the best checkpoints of one or several training runs on a whole split, as `demega-jax evaluate` does.

    runs: a run folder, several, or a stack.  data: the folder that holds grouped_K, or recordings; None: that of
    training.  level: K, several, or "all"; None: as in training.  splits: a file of splits for recordings.  ensemble:
    how several models are combined.  tta: the seed of test-time augmentation; None: without.  denoise: denoise windows
    by wavelets first.  report: write figures and a page to the folder `report` of the run.  progress: whether to print
    what is found. UserError: what is asked for cannot be done.
    """
    with loudness(Loudness.USUAL if progress else Loudness.SILENT):
        found = evaluate_as_asked(
            runs,
            data=data,
            level=level,
            split=split,
            splits=splits,
            ensemble=ensemble,
            tta=tta,
            denoise=denoise,
            report=report,
        )
        if progress:
            found.show()
    return found


def evaluate_as_asked(
    runs: Runs,
    agree: Agree | None = None,
    *,
    data: PathLike | None,
    level: "Levels | None",
    split: str,
    splits: PathLike | None,
    ensemble: Method,
    tta: int | None,
    denoise: bool,
    report: bool,
) -> EvaluateResult:
    """`evaluate`, as loud as it is asked for already; nothing is printed of the scores.

    agree: of several processes, makes sure that all see the same rows and models, before the first batch.
    """
    check_one_of("--split", split, ("validation", "test"))
    check_one_of("--ensemble", ensemble, get_args(Method))
    paths = run_paths(runs)
    if report:
        check_report(paths)
    bases, asked = expand(paths, Asked(ensemble, tta, denoise))
    config = asked_config(bases[0], expanded_path(data), level or list(asked.levels), path_of(splits))
    with settings_of(config_of(bases)):
        from demega_jax.evaluation.runs import load_runs

        return _evaluated(load_runs(bases), config.data, split, asked, agree, report=report)


def _evaluated(
    models: "Sequence[Model]", data: "DataConfig", name: str, asked: Asked, agree: Agree | None, *, report: bool
) -> EvaluateResult:
    split = open_scored(data, name, models, asked)
    if asked.method == "weighted" and name == "validation":
        warn("--ensemble weighted: the weights are fitted on the rows that are scored, so the score is too good")
    fitted = rows_to_fit(models, data, asked)
    if agree is not None:
        agree([split] if fitted is None else [split, fitted], models)
    scores, ensemble = score(models, split, asked, fitted)
    baseline = baseline_of(models, scores)
    page = _report(models[0], split, scores, ensemble, asked, baseline) if report else None
    steps = tuple(step for model in models for step in model.steps)
    runs = tuple(model.name for model in models)
    return EvaluateResult(
        scores, ensemble, runs, steps, name, split.level or data.level, str(split.path), page, baseline
    )


def _report(
    model: "Model",
    split: "Split",
    scores: "Scores",
    ensemble: "EnsembleReport | None",
    asked: Asked,
    baseline: "Scores | None",
) -> Path:
    from demega_jax.evaluation.report.write import Evaluated, write_report

    known = (model.name, model.config, model.steps, split, scores, ensemble, asked.method)
    return write_report(Evaluated(*known, baseline=baseline))
