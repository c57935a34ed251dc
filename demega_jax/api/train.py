"""`demega_jax.train`: a training run, from a configuration and its data."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from demega_jax.api.paths import PathLike, check_inputs, check_one_of, check_out, check_there, expanded_path, path_of
from demega_jax.api.settings import settings_of
from demega_jax.config import Config
from demega_jax.config.given import ConfigLike, config_file, read_given
from demega_jax.errors import UserError
from demega_jax.saying import in_python

if TYPE_CHECKING:
    from demega_jax.api.asked import Changes, Levels
    from demega_jax.api.training_run import TrainResult
    from demega_jax.names import Target
    from demega_jax.training.run import RunFolder
    from demega_jax.training.signals import Signals

Wait = Callable[["Callable[[Signals], TrainResult]"], "TrainResult"]


@in_python
def train(
    config: ConfigLike | None = None,
    changes: "Changes" = (),
    *,
    data: PathLike | None = None,
    level: "Levels | None" = None,
    run: PathLike | None = None,
    resume: bool = False,
    init: PathLike | None = None,
    devices: int | None = None,
    parallel: Literal["jit", "pmap"] = "jit",
    progress: bool = True,
) -> "TrainResult":
    """Train a model on grouped files, shards or recordings, as the command `demega-jax train` does.

    config: a `Config`, a YAML file, the name of a file in configs/ such as "demo", or sections as a mapping; None: the
    defaults, or with `resume` the configuration of the run.  changes: of its keys, as {"train.epochs": 2} or
    ["train.epochs=2"].  data: the folder that holds grouped_K, or recordings.  level: K, several of them, or "all".
    run: the run folder to make; None: runs/{config name}-{time}.  resume: go on with the training run in `run` instead.
    init: another run, whose parameters are the first ones.  devices: how many; None: all.  progress: whether lines
    (in a notebook too) say what goes on.

    Ctrl-C, or "interrupt" in a notebook, stops after the step that is under way, saves, and returns; `resume=True` goes
    on from there. UserError: what is asked for cannot be done; then no run folder is left behind.
    """
    from demega_jax.api.in_thread import in_thread
    from demega_jax.saying import Loudness, loudness

    request = TrainRequest(
        config, changes, expanded_path(data), level, path_of(run), resume, path_of(init), devices, parallel
    )
    with loudness(Loudness.USUAL if progress else Loudness.SILENT):
        return train_as_asked(request, in_thread)


@dataclasses.dataclass(frozen=True)
class TrainRequest:
    """The training run that is asked for, by Python or on a command line; the arguments are those of `train`.

    again: gives the command that goes on with a run folder after an interruption; None: it is a call in Python.
    """

    config: ConfigLike | None
    changes: "Changes"
    data: str | None
    level: "Levels | None"
    run: Path | None
    resume: bool
    init: Path | None
    devices: int | None
    parallel: Literal["jit", "pmap"]
    again: Callable[[Path], str] | None = None

    @functools.cached_property
    def folder(self) -> "RunFolder":
        """The run folder; without `run`, one with the name of the configuration and the time."""
        from demega_jax.training.run import RunFolder, default_run_path

        return RunFolder(self.run or default_run_path(self.file or Path("run")))

    @property
    def file(self) -> Path | None:
        """The YAML file of the configuration, where it is one."""
        return config_file(self.config) if isinstance(self.config, str | Path) else None

    @property
    def go_on(self) -> str:
        """What continues the training run after an interruption."""
        path = self.folder.path
        return f"demega_jax.train(run={str(path)!r}, resume=True)" if self.again is None else self.again(path)

    def check(self) -> None:
        """UserError: two things contradict each other, or a path is not there. It is for early checks."""
        from demega_jax.training.run import RunFolder

        check_one_of("--parallel", self.parallel, ("jit", "pmap"))
        if self.devices is not None and self.devices < 1:
            raise UserError("--devices", str(self.devices), "at least 1", "leave it out for all devices")
        if self.resume and self.init is not None:
            raise UserError("--init", "given beside --resume", "only one of the two", "leave out --init or --resume")
        if self.resume and self.run is None:
            wanted = "the folder of the training run to continue"
            raise UserError("--resume", "no --run", wanted, "name it with --run DIR")
        check_inputs(self.file, self.data)
        if self.init is not None:
            check_there(self.init, "the folder of a training run", folder=True)
            RunFolder(self.init).read_config()

    def asked(self, *, dry_run: bool = False) -> Config:
        """The configuration to train with, of a run folder that is free, or that goes on.

        UserError: it does not fit, the run folder is not free or cannot be written, or there are no such data.
        dry_run: whether nothing will be written.
        """
        from demega_jax.api.asked import absolute_paths, changed, check_levels, with_levels
        from demega_jax.training.alone import check_alone
        from demega_jax.training.run import resumed_config

        check_alone(self.folder)
        saved = self.folder.read_config() if self.resume else None
        base = saved if saved is not None and self.config is None else read_given(self.config, "config")
        asked = absolute_paths(changed(base, self.changes, {"data.path": ("--data", self.data)}))
        asked = with_levels(
            asked, self.level, self.changes, asked.data if saved is None or asked.data.path else saved.data
        )
        if saved is not None:
            asked = resumed_config(saved, asked, self.folder.path)
        elif not dry_run:
            self.folder.check_new()  # before anything slow
        if not dry_run:
            check_out(self.folder.path)
        check_levels(asked)
        return asked


def train_as_asked(request: TrainRequest, wait: Wait) -> "TrainResult":
    """Train, and wait for the end or an interruption. wait: does the work, and asks it to stop where that is asked."""
    request.check()
    config = request.asked()
    with settings_of(config):
        from demega_jax.api.training_run import begin
        from demega_jax.evaluation.fit import open_experiment

        experiment = open_experiment(config, request.devices, request.parallel)
        return wait(lambda signals: begin(experiment, request, signals))


def plan_as_asked(request: TrainRequest, target: "Target | None" = None) -> None:
    """Print what a training run would do, on this machine or on a device that is not here. Nothing is written."""
    request.check()
    config = request.asked(dry_run=True)
    with settings_of(config):
        from demega_jax.api.describe import print_plan
        from demega_jax.evaluation.fit import open_experiment

        if target is not None:
            from demega_jax.api.target_plan import print_target_plan

            return print_target_plan(config, target, request.devices or 1)
        print_plan(open_experiment(config, request.devices, request.parallel))
