"""The training loop: steps and, every so many steps, a line of the log, a validation and a checkpoint."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import jax
import numpy as np
from rich.console import Console

from demega_jax.config import Config
from demega_jax.data.feeds.feed import Feed
from demega_jax.errors import UserError, counted, warn
from demega_jax.files import format_bytes
from demega_jax.metrics import Scores
from demega_jax.saying import is_verbose
from demega_jax.training.checkpoint import Meta
from demega_jax.training.dispatch import Dispatch, compile_dispatch, device_memory
from demega_jax.training.in_flight import COUNTERS, NO_ROW, Finished, InFlight, Lap, Meter, Row, Sums
from demega_jax.training.members import Member, Standing, member_config
from demega_jax.training.memory import StepMemory, out_of_memory
from demega_jax.training.progress import VALIDATION_FORMATS, Progress
from demega_jax.training.run import RunFolder
from demega_jax.training.setup import Experiment
from demega_jax.training.signals import Interrupted, Signals
from demega_jax.training.state import TrainState, evaluation_params

Validate = Callable[[Any, Any], Scores]


def due(step: int, every: int, last: int) -> bool:
    """Whether what happens every `every` steps happens after this one. It always does after the last step."""
    return step % every == 0 or step == last


class Loop:
    """A training run under way. `run` takes it to its end, or to a signal."""

    def __init__(
        self,
        experiment: Experiment,
        folder: RunFolder,
        state: TrainState,
        metas: list[Meta] | None,
        validate: Validate,
        *,
        kind: type[Member] = Member,
    ):
        """metas: of the checkpoints that `state` was restored from, one for each model; None for a new training run.

        validate: (params, buffers) -> the scores of the validation split.  kind: of the models; a process that follows
        another one has `together.Follower`s, which write nothing.
        """
        self.experiment, self.state, self._validate_model = experiment, state, validate
        self.config: Config = experiment.config
        self.start = 0 if metas is None else int(metas[0]["step"])
        self.step = self.start  # the last step of the last dispatch that was started; `state` is its result
        self.total = experiment.total_steps
        folders, skipped = folder.members(self.config), np.atleast_1d(np.asarray(state.skipped))
        self.members = []
        for number, each in enumerate(folders):
            meta = None if metas is None else metas[number]
            config, which = member_config(self.config, number), None if len(folders) == 1 else number
            self.members.append(kind(each, config, which, meta, int(skipped[number])))
        self._carried, self._row = _sums_of(metas), _row_of(metas)
        self._failure: UserError | None = None  # too many skipped steps, after which this dispatch is the last
        self._meter: Meter  # made before the first step
        self._dispatch: Dispatch | None = None  # compiled before the first step

    def run(self, *, resumed: bool, signals: Signals, console: Console | None = None) -> list[Standing]:
        """Train to the end; returns the standing of each model. Interrupted: a signal came, and everything is saved.

        console: where progress is shown; None: stdout.
        """
        with ExitStack() as stack:
            for member in self.members:
                stack.enter_context(member.opened(self.start if resumed else None))
            feed = stack.enter_context(closing(self.experiment.feed()))
            feed.restore({"next_step": self.start})
            monitor = self.config.train.monitor
            shown = Progress(self.total, start_step=self.start, console=console, monitor=monitor)
            progress = stack.enter_context(shown)
            if self.start < self.total and not all(member.stopped for member in self.members):
                stack.enter_context(self._memory_error())
                self._steps(feed, progress, signals)
        return [member.standing for member in self.members]

    @contextmanager
    def _memory_error(self) -> Iterator[None]:
        """Turn the error of a device that runs out of memory, at any time, into one that names a batch size."""
        try:
            yield
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            available, multiple, sharing = device_memory(self.experiment)
            size = self.config.train.batch_size
            # While compiling, no more is known than that it was too much.
            need = StepMemory(0, size) if self._dispatch is None else self._dispatch.need
            # The step needed more than its analysis says (fragments, other programs): name a batch for half of that.
            seen = min(available or need.total * sharing, need.total * sharing) // 2
            raise out_of_memory(need, seen, size, multiple, sharing) from None

    def _steps(self, feed: Feed, progress: Progress, signals: Signals) -> None:
        """Step to the end, or until every model has stopped early. Interrupted: a signal came."""
        train, each = self.config.train, self.config.train.steps_per_dispatch
        eval_every = train.eval_every or self.experiment.steps_per_epoch
        cadences = (train.log_every, eval_every, train.save_every or eval_every)
        log_every, eval_every, save_every = (-(-every // each) * each for every in cadences)  # in whole dispatches
        progress.message("compiling the step ..")
        self._dispatch = dispatch = compile_dispatch(self.experiment, feed, self.state)
        progress.message(f"compiled the step in {dispatch.seconds:.1f} s")
        dispatch.check(self.experiment)
        need = dispatch.need
        if is_verbose():
            progress.message(f"the step needs {format_bytes(need.total)}, of which state {format_bytes(need.kept)}")
        feed.take_input_wait()  # the first batch, which opened the files, does not count
        in_flight = InFlight()
        self._meter = meter = Meter(self.start, each, self._carried, row=self._row)

        def log(finished: Iterable[Finished], last: int) -> None:
            for done in finished:
                meter.add(done.metrics)
                if due(done.step, log_every, last):
                    self._log(done.step, meter.lap(done, ends=done.step % log_every == 0), feed, progress)

        for step in range(self.start + each, self.total + 1, each):
            inputs = dispatch.take()
            self.state, metrics = dispatch.run(self.state, *inputs)  # the line that learns
            self.step = step

            stopping = signals.stops_after(step, step + each)
            last = step if stopping else self.total
            validating, saving = due(step, eval_every, self.total), due(step, save_every, last)
            log(in_flight.start(step, metrics), last)
            if validating or saving or self._failure is not None:
                log(in_flight.drain(), last)  # lines of the log come before what follows from the same steps
            if validating:
                with meter.left_out():
                    self._validate(step, progress)
                if all(member.stopped for member in self.members) and step < self.total and self._failure is None:
                    return self._save()
            if saving or self._failure is not None:
                with meter.left_out():
                    self._save()
            if self._failure is not None:
                raise self._failure
            if stopping and step < self.total:
                for member in self.members:
                    member.wait()
                raise Interrupted(signals.received or signal.SIGTERM)

    def _log(self, step: int, lap: Lap, feed: Feed, progress: Progress) -> None:
        rates = {
            "samples_per_second": self._rows(step, lap.steps) / lap.seconds,
            "input_wait": feed.take_input_wait() / lap.steps,
        }
        epoch = step / self.experiment.steps_per_epoch
        for number, member in enumerate(self.members):
            values = {name: float(mean[number]) for name, mean in lap.means.items()}
            skipped, last_skipped = (int(lap.counters[name][number]) for name in COUNTERS)
            values["learning_rate"] = float(self.experiment.schedule(step - 1 - skipped))
            if not member.stopped:
                member.log("train", step, epoch, values | rates | {"skipped": skipped})
                self._check_skipped(member, skipped, last_skipped, int(lap.in_a_row[number]))
        progress.log_train(step, epoch, rates | {"loss": float(np.mean(lap.means["loss"]))})

    def _check_skipped(self, member: Member, skipped: int, last_skipped: int, in_a_row: int) -> None:
        """Warn of skipped steps, which were not finite. Too many of them, in all or in a row, are the failure of the
        run, which then ends with what is under way: the state and the log of a checkpoint are of the same step."""
        if self._failure is not None:
            return
        if skipped > member.skipped:
            warn(
                f"{member.name}{counted(skipped - member.skipped, 'step', 'were')} skipped, as loss or gradient was "
                f"not finite, the last of them step {last_skipped}; {skipped} in all"
            )
            member.skipped = skipped
        train = self.config.train
        for count, most, which, key in (
            (skipped, train.max_nonfinite_steps, "so far", "max_nonfinite_steps"),
            (in_a_row, train.max_nonfinite_in_a_row, "in a row", "max_nonfinite_in_a_row"),
        ):
            if count > most:
                came = f"the loss, its gradient or its result was not finite, in {counted(count, 'step')} {which}"
                wanted = f"at most {most} such steps (train.{key})"
                way_out = (
                    "lower optim.learning_rate, set model.dtype=float32, or look at the data with `demega-jax inspect`"
                )
                self._failure = UserError(f"{member.name}step {last_skipped}", came, wanted, way_out)
                return

    def _rows(self, step: int, steps: int) -> int:
        """The number of rows, without padding, of the last `steps` steps."""
        per_epoch, rows = self.experiment.steps_per_epoch, self.experiment.data.train.rows
        size = self.config.train.batch_size

        def until(n: int) -> int:
            return n // per_epoch * rows + min(n % per_epoch * size, rows)

        return until(step) - until(step - steps)

    def _validate(self, step: int, progress: Progress) -> None:
        epoch = step / self.experiment.steps_per_epoch
        best, found = False, []
        for member in self.members:
            if member.stopped:
                continue
            params, buffers = member.of((evaluation_params(self.state), self.state.buffers))
            scores = self._validate_model(params, buffers).summary()
            found.append(scores)
            member.log("validation", step, epoch, scores)
            if member.standing.update(scores[self.config.train.monitor], step):
                best = True
                member.save("best", self.state, self._meta(step) | {"validation": scores})
            if member.stopped and step < self.total:
                standing = member.standing
                progress.message(
                    f"{member.name}stopped early after step {step}: none of the last {standing.stale} validations "
                    f"was better than {standing.best} at step {standing.best_step}"
                )
        means = {name: float(np.mean([one[name] for one in found])) for name in VALIDATION_FORMATS if name in found[0]}
        progress.log_validation(step, epoch, means, best)

    def _save(self) -> None:
        sums, row = self._meter.sums(), self._meter.row()
        for number, member in enumerate(self.members):
            mine = {name: [float(total[number]), int(count[number])] for name, (total, count) in sums.items()}
            rows = [int(np.broadcast_to(count, len(self.members))[number]) for count in row]
            meta = {"since_last_line": mine, "skipped_in_a_row": rows}
            member.save("latest", self.state, self._meta(self.step) | meta)

    def _meta(self, step: int) -> Meta:
        train = self.experiment.data.train
        return {
            "epoch": step / self.experiment.steps_per_epoch,
            "feed": {"next_step": step},
            "class_counts": train.class_counts().tolist(),
            "level": train.level,
            "simulated": train.simulated,
        }


def _sums_of(metas: list[Meta] | None) -> Sums:
    """The sums of all members since the last line of the log, from the metas of their checkpoints."""
    found = [meta.get("since_last_line", {}) for meta in metas or ()]
    return {
        name: (np.array([each[name][0] for each in found]), np.array([each[name][1] for each in found]))
        for name in (found[0] if found else ())
    }


def _row_of(metas: list[Meta] | None) -> Row:
    """The rows of skipped steps of all members up to their checkpoints, from the metas of these."""
    if metas is None:
        return NO_ROW
    now, longest = np.array([meta.get("skipped_in_a_row", (0, 0)) for meta in metas], int).T
    return Row(now, longest)
