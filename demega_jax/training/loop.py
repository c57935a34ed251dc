"""The training loop: steps, and at their cadences the log, validation and checkpoints."""

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import jax
import numpy as np

from demega_jax.config import Config
from demega_jax.data.feeds.feed import Feed
from demega_jax.errors import UserError, warn
from demega_jax.training.dispatch import compile_dispatch
from demega_jax.training.in_flight import COUNTERS, Finished, InFlight, Lap, Meter, Sums
from demega_jax.training.members import Member, Standing, member_config
from demega_jax.training.memory import StepMemory, available_memory, check_memory, out_of_memory
from demega_jax.training.progress import VALIDATION_FORMATS, Progress
from demega_jax.training.run import RunFolder
from demega_jax.training.setup import Experiment
from demega_jax.training.signals import Interrupted, Signals
from demega_jax.training.state import TrainState, evaluation_params


def due(step: int, every: int, last: int) -> bool:
    """Whether something of a cadence happens after this step; it always does after the last."""
    return step % every == 0 or step == last


class Scored(Protocol):
    """The scores of a split, of which the loop asks a summary alone."""

    def summary(self) -> dict[str, float]:
        """What a validation line of metrics.jsonl holds; `macro_f1` is among it."""
        ...


Validate = Callable[[Any, Any], Scored]


class Loop:
    """A run in motion. `run` takes it to its end, or to a signal."""

    def __init__(
        self, experiment: Experiment, folder: RunFolder, state: TrainState, metas: Sequence[dict[str, Any]] | None,
        validate: Validate,
    ):  # fmt: skip
        """metas: of the checkpoint of each model that `state` came from; None for a new run.

        validate: (params, buffers) -> the scores of the validation split.
        """
        self.experiment, self.state, self._validate_model = experiment, state, validate
        self.config: Config = experiment.config
        self.start = 0 if metas is None else int(metas[0]["step"])
        self.step = self.start  # of the last dispatch that was started: `state` is its result
        self.total = experiment.total_steps
        folders, skipped = folder.members(self.config), np.atleast_1d(np.asarray(state.skipped))
        self.members = []
        for number, each in enumerate(folders):
            meta = None if metas is None else metas[number]
            config, which = member_config(self.config, number), None if len(folders) == 1 else number
            self.members.append(Member(each, config, which, meta, int(skipped[number])))
        self._carried = _sums_of(metas)
        self._meter: Meter  # from the first step on
        self._need: StepMemory | None = None

    def run(self, *, resumed: bool, signals: Signals) -> list[Standing]:
        """Train to the end; where each model stands. Raises `Interrupted` after a signal, with everything saved."""
        with ExitStack() as stack:
            for member in self.members:
                stack.callback(member.close)
                member.open(self.start if resumed else None)
            feed = self.experiment.feed()
            stack.callback(feed.close)
            feed.restore({"next_step": self.start})
            progress = stack.enter_context(Progress(self.total, start_step=self.start))
            if self.start < self.total and not all(member.stopped for member in self.members):
                stack.enter_context(self._memory_error())
                self._steps(feed, progress, signals)
        return [member.standing for member in self.members]

    @contextmanager
    def _memory_error(self) -> Iterator[None]:
        """A device that runs out of memory, whenever that is noticed, becomes an error that names a batch size."""
        try:
            yield
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            available, multiple, sharing = self._memory()
            size = self.config.train.batch_size
            need = self._need or StepMemory(0, size)  # in compilation: all that is known is that it was too much
            # More was needed than the analysis saw (fragments, other programs): half of it is taken to be there.
            seen = min(available or need.total * sharing, need.total * sharing) // 2
            raise out_of_memory(need, seen, size, multiple, sharing) from None

    def _compile(self, feed: Feed, progress: Progress) -> tuple[Any, Callable[[], tuple[Any, ...]]]:
        """(state, *inputs) -> (state, metrics) of a dispatch, compiled, and what gives the inputs of the next.

        Refuses a batch that memory cannot hold.
        """
        progress.message("compiling the step ..")
        dispatch = compile_dispatch(self.experiment, feed, self.state)
        progress.message(f"compiled the step in {dispatch.seconds:.1f} s")
        self._need = dispatch.need
        available, multiple, sharing = self._memory()
        check_memory(self._need, available, self.config.train.batch_size, multiple, sharing)
        return dispatch.run, dispatch.take

    def _memory(self) -> tuple[int | None, int, int]:
        """(bytes of a device, what batch sizes are multiples of, devices that share those bytes)."""
        placement = self.experiment.placement
        available = available_memory(placement.mesh.devices.flat[0])
        return available, placement.devices * self.config.train.accumulate, placement.sharing

    def _cadences(self) -> tuple[int, int, int]:
        """Steps between lines of the log, validations and checkpoints: multiples of the steps of a dispatch."""
        train, each = self.config.train, self.config.train.steps_per_dispatch
        eval_every = train.eval_every or self.experiment.steps_per_epoch
        cadences = (train.log_every, eval_every, train.save_every or eval_every)
        log_every, eval_every, save_every = (-(-every // each) * each for every in cadences)
        return log_every, eval_every, save_every

    def _steps(self, feed: Feed, progress: Progress, signals: Signals) -> None:
        each, (log_every, eval_every, save_every) = self.config.train.steps_per_dispatch, self._cadences()
        run, take = self._compile(feed, progress)
        inputs = take()
        feed.take_input_wait()  # the first batch opened the files
        in_flight = InFlight()
        self._meter = meter = Meter(self.start, each, self._carried)

        def log(finished: Iterable[Finished], last: int) -> None:
            for dispatch in finished:
                meter.add(dispatch.metrics)
                if due(dispatch.step, log_every, last):
                    ends = dispatch.step % log_every == 0
                    self._log(dispatch.step, meter.lap(dispatch, ends=ends), feed, progress)

        for step in range(self.start + each, self.total + 1, each):
            self.state, metrics = run(self.state, *inputs)
            self.step = step
            stopping = signals.received is not None
            last = step if stopping else self.total
            log(in_flight.start(step, metrics), last)
            if stopping or due(step, eval_every, self.total) or due(step, save_every, last):
                log(in_flight.drain(), last)  # lines of the log come before what follows from the same steps
            if due(step, eval_every, self.total):
                with meter.left_out():
                    self._validate(step, progress)
                if all(member.stopped for member in self.members) and step < self.total:
                    self._save()
                    return
            if due(step, save_every, last):
                with meter.left_out():
                    self._save()
            if stopping and step < self.total:
                for member in self.members:
                    member.checkpoints.wait()
                raise Interrupted(signals.received or signal.SIGTERM)
            if step < self.total:
                inputs = take()

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
                member.writers.write("train", step, epoch, values | rates)
                self._check_skipped(member, skipped, last_skipped)
        progress.log_train(step, epoch, rates | {"loss": float(np.mean(lap.means["loss"]))})

    def _check_skipped(self, member: Member, skipped: int, last_skipped: int) -> None:
        """Warn of steps whose loss or gradient was not finite. UserError: there were too many."""
        if skipped > member.skipped:
            warn(f"{member.name}{skipped - member.skipped} steps with a loss or gradient that is not finite were "
                 f"skipped, the last at step {last_skipped}; {skipped} in all")  # fmt: skip
            member.skipped = skipped
        if skipped > self.config.train.max_nonfinite_steps:
            self._save()
            raise UserError(
                f"{member.name}step {last_skipped}",
                f"the loss or its gradient was not finite, in {skipped} steps so far",
                f"at most {self.config.train.max_nonfinite_steps} such steps (train.max_nonfinite_steps)",
                "lower optim.learning_rate, or use model.dtype=float32, or look at the data with `inspect`",
            )

    def _rows(self, step: int, steps: int) -> int:
        """Real rows (not padding) of the last `steps` steps."""
        per_epoch, rows, size = (
            self.experiment.steps_per_epoch, self.experiment.data.train.rows, self.config.train.batch_size,
        )  # fmt: skip

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
            member.writers.write("validation", step, epoch, scores)
            if member.standing.update(scores["macro_f1"], step):
                best = True
                member.save("best", self.state, self._meta(step), scores)
            if member.stopped and step < self.total:
                standing = member.standing
                progress.message(
                    f"{member.name}stopped early after step {step}: no better macro-F1 than "
                    f"{standing.best_macro_f1:.4f} (step {standing.best_step}) in {standing.stale} validations"
                )
        means = {name: float(np.mean([one[name] for one in found])) for name in VALIDATION_FORMATS if name in found[0]}
        progress.log_validation(step, epoch, means, best)

    def _save(self) -> None:
        sums = self._meter.sums()
        for number, member in enumerate(self.members):
            mine = {name: [float(total[number]), int(count[number])] for name, (total, count) in sums.items()}
            member.save("latest", self.state, self._meta(self.step) | {"since_last_line": mine})

    def _meta(self, step: int) -> dict[str, Any]:
        return {
            "epoch": step / self.experiment.steps_per_epoch,
            "feed": {"next_step": step},
            "class_counts": self.experiment.data.train.class_counts().tolist(),
        }


def _sums_of(metas: Sequence[dict[str, Any]] | None) -> Sums:
    """The sums since the last line of the log, of all members, from the metas of their checkpoints."""
    found = [meta.get("since_last_line", {}) for meta in metas or ()]
    return {
        name: (np.array([each[name][0] for each in found]), np.array([each[name][1] for each in found]))
        for name in (found[0] if found else ())
    }
