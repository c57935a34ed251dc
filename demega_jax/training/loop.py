"""The training loop: steps, and at their cadences the log, validation and checkpoints."""

import collections
import dataclasses
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

import jax
import numpy as np

from demega_jax.config import Config
from demega_jax.data.feed import Feed
from demega_jax.errors import UserError, warn
from demega_jax.evaluation.evaluate import evaluate_split
from demega_jax.training.checkpoint import Checkpoints
from demega_jax.training.memory import StepMemory, available_memory, check_memory, out_of_memory, step_memory
from demega_jax.training.progress import Progress
from demega_jax.training.run import RunFolder
from demega_jax.training.setup import Experiment
from demega_jax.training.state import TrainState, evaluation_params
from demega_jax.training.writers import Writers, open_writers

# Steps that may be under way at once. Without a bound the host would run ahead of the devices, holding a batch for
# each step; and virtual CPU devices deadlock when too many collectives are under way.
STEPS_IN_FLIGHT = 4


@dataclasses.dataclass
class Standing:
    """Where a run stands beside its arrays; saved with each checkpoint."""

    best_macro_f1: float = -1.0
    best_step: int = 0
    stale: int = 0  # validations since the best

    def update(self, macro_f1: float, step: int) -> bool:
        """Take in a validation; whether it is the best so far."""
        better = macro_f1 > self.best_macro_f1
        if better:
            self.best_macro_f1, self.best_step, self.stale = macro_f1, step, 0
        else:
            self.stale += 1
        return better


class Interrupted(Exception):
    """A signal asked for the end; the step is finished and saved."""

    def __init__(self, signum: int):
        super().__init__(signum)
        self.status = 128 + signum


class Signals:
    """Notes SIGTERM and SIGINT; a second one acts as ever."""

    def __init__(self) -> None:
        self.received: int | None = None

    @contextmanager
    def noted(self) -> Iterator["Signals"]:
        """While active, the first signal is noted instead of acting."""
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def note(number: int, frame: FrameType | None) -> None:
            self.received = number
            for each, handler in before.items():
                signal.signal(each, handler)

        for number in before:
            signal.signal(number, note)
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def due(step: int, every: int, last: int) -> bool:
    """Whether something of a cadence happens after this step; it always does after the last."""
    return step % every == 0 or step == last


class Loop:
    """A run in motion. `run` takes it to its end, or to a signal."""

    def __init__(self, experiment: Experiment, folder: RunFolder, state: TrainState, meta: dict[str, Any] | None):
        """meta: of the checkpoint that `state` came from; None for a new run."""
        self.experiment, self.folder, self.state = experiment, folder, state
        self.start = 0 if meta is None else int(meta["step"])
        self.standing = Standing() if meta is None else Standing(**meta["standing"])
        self.checkpoints = Checkpoints(folder.checkpoints)
        self.config: Config = experiment.config
        self.total = experiment.total_steps
        self.skipped = int(np.asarray(state.skipped))
        self._need: StepMemory | None = None
        self._train_step = experiment.placement.compile_train(experiment.train_step)
        self._evaluate_step = experiment.placement.compile_evaluate(experiment.evaluate_step)

    def run(self, *, resumed: bool, signals: Signals) -> Standing:
        """Train to the end. Raises `Interrupted` after a signal, with everything saved."""
        report = self.config.report
        with ExitStack() as stack:
            writers = open_writers(
                self.folder.path, tensorboard=report.tensorboard, wandb=report.wandb,
                config=self.config.model_dump(), resume_step=self.start if resumed else None,
            )  # fmt: skip
            stack.callback(writers.close)
            stack.callback(self.checkpoints.close)
            feed = self.experiment.feed()
            stack.callback(feed.close)
            feed.restore({"next_step": self.start})
            progress = stack.enter_context(Progress(self.total, start_step=self.start))
            if self.start < self.total:
                stack.enter_context(self._memory_error())
                self._steps(feed, writers, progress, signals)
        return self.standing

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

    def _compile(self, feed: Feed, progress: Progress) -> tuple[Any, Any]:
        """The first batch and the compiled step; refuses a batch that memory cannot hold."""
        batch = next(feed)
        began = time.perf_counter()
        compiled = self._train_step.lower(self.state, batch).compile()
        progress.message(f"compiled the step in {time.perf_counter() - began:.1f} s")
        self._need, (available, multiple, sharing) = step_memory(compiled, self.state), self._memory()
        if sharing == 1:  # a CPU's free memory is less what the feed took already
            self._need = dataclasses.replace(self._need, kept=self._need.kept + feed.device_bytes)
        check_memory(self._need, available, self.config.train.batch_size, multiple, sharing)
        return batch, compiled

    def _memory(self) -> tuple[int | None, int, int]:
        """(bytes of a device, what batch sizes are multiples of, devices that share those bytes)."""
        placement = self.experiment.placement
        device = placement.mesh.devices.flat[0]
        sharing = placement.devices if device.platform == "cpu" else 1
        return available_memory(device), placement.devices * self.config.train.accumulate, sharing

    def _steps(self, feed: Feed, writers: Writers, progress: Progress, signals: Signals) -> None:
        train, per_epoch = self.config.train, self.experiment.steps_per_epoch
        eval_every = train.eval_every or per_epoch
        save_every = train.save_every or eval_every
        batch, step_function = self._compile(feed, progress)
        under_way: collections.deque[Any] = collections.deque()
        feed.take_input_wait()  # the first batch opened the files
        clock = Clock(self.start)
        for step in range(self.start + 1, self.total + 1):
            self.state, metrics = step_function(self.state, batch)
            under_way.append(metrics["loss"])
            if len(under_way) > STEPS_IN_FLIGHT:
                jax.block_until_ready(under_way.popleft())
            stopping = signals.received is not None
            last = self.total if not stopping else step
            if due(step, train.log_every, last):
                self._log(step, metrics, feed, writers, progress, clock)
            if due(step, eval_every, self.total):
                with clock.left_out():
                    self._validate(step, writers, progress)
                if train.early_stopping and self.standing.stale >= train.early_stopping and step < self.total:
                    self._save(step)
                    progress.message(
                        f"stopped early after step {step}: no better macro-F1 than {self.standing.best_macro_f1:.4f} "
                        f"(step {self.standing.best_step}) in {self.standing.stale} validations"
                    )
                    return
            if due(step, save_every, last):
                self._save(step)
            if stopping and step < self.total:
                self.checkpoints.wait()
                raise Interrupted(signals.received or signal.SIGTERM)
            if step < self.total:
                batch = next(feed)

    def _log(self, step: int, metrics: Any, feed: Feed, writers: Writers, progress: Progress, clock: "Clock") -> None:
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        skipped, last_skipped = int(values.pop("skipped")), int(values.pop("last_skipped"))
        seconds, steps = clock.lap(step)
        values["learning_rate"] = float(self.experiment.schedule(step - 1 - skipped))
        values["samples_per_second"] = self._rows(step, steps) / seconds
        values["input_wait"] = feed.take_input_wait() / steps
        epoch = step / self.experiment.steps_per_epoch
        writers.write("train", step, epoch, values)
        progress.log_train(step, epoch, values)
        if skipped > self.skipped:
            warn(f"{skipped - self.skipped} steps with a loss or gradient that is not finite were skipped, the last "
                 f"at step {last_skipped}; {skipped} in all")  # fmt: skip
            self.skipped = skipped
        if skipped > self.config.train.max_nonfinite_steps:
            self._save(step)
            raise UserError(
                f"step {last_skipped}",
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

    def _validate(self, step: int, writers: Writers, progress: Progress) -> None:
        split = self.experiment.data.validation
        scores = evaluate_split(
            self._evaluate_step, evaluation_params(self.state), self.state.buffers, split, self.config,
            self.experiment.placement, self.config.train.batch_size,
        )  # fmt: skip
        best = self.standing.update(scores.macro_f1, step)
        epoch = step / self.experiment.steps_per_epoch
        writers.write("validation", step, epoch, scores.summary())
        progress.log_validation(step, epoch, scores.summary(), best)
        if best:
            self.checkpoints.save("best", self.state, dict(self._meta(step), validation=scores.summary()))

    def _save(self, step: int) -> None:
        self.checkpoints.save("latest", self.state, self._meta(step))

    def _meta(self, step: int) -> dict[str, Any]:
        return {
            "epoch": step / self.experiment.steps_per_epoch,
            "feed": {"next_step": step},
            "standing": dataclasses.asdict(self.standing),
            "config": self.config.model_dump(mode="json"),
            "class_counts": self.experiment.data.train.class_counts().tolist(),
        }


class Clock:
    """Seconds and steps between lines of the log, without the time that validation takes."""

    def __init__(self, step: int):
        self._began, self._step, self._left_out = time.perf_counter(), step, 0.0

    def lap(self, step: int) -> tuple[float, int]:
        """(seconds, steps) since the last lap."""
        now = time.perf_counter()
        seconds, steps = now - self._began - self._left_out, step - self._step
        self._began, self._step, self._left_out = now, step, 0.0
        return max(seconds, 1e-9), max(steps, 1)

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """What happens inside is no time of the steps."""
        began = time.perf_counter()
        yield
        self._left_out += time.perf_counter() - began
