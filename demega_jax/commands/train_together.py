"""`train` in several processes: they join, take the leader's configuration, and train one model in its run folder."""

import contextlib
import io
import json
import signal
import sys
import traceback
from collections.abc import Iterator
from types import FrameType

from demega_jax.api.train import TrainRequest
from demega_jax.api.training_run import begin
from demega_jax.commands.shared.interrupts import ENDING
from demega_jax.commands.shared.interrupts import end_at_once as end_by_signal
from demega_jax.commands.shared.process import Process, only_cpu, set_numerics
from demega_jax.commands.shared.processes import Ours
from demega_jax.commands.shared.roll_call import roll_call
from demega_jax.config.load import validated
from demega_jax.console import new_console
from demega_jax.errors import UserError, set_warning_sink
from demega_jax.evaluation.evaluate import validation_of
from demega_jax.evaluation.fit import open_experiment
from demega_jax.training.joining import join, leave, leave_alone, only_our_output, start_service
from demega_jax.training.loop import Loop
from demega_jax.training.run import RunFolder
from demega_jax.training.setup import Experiment
from demega_jax.training.signals import Interrupted
from demega_jax.training.together import Follower, SharedSignals, Together, end_at_once

OWN_OPTIONS = ("--process-id",)  # what may differ between the command lines of the processes


def train_together(
    process: Process,
    ours: Ours,
    request: TrainRequest,
) -> int:
    """Train with the other processes; returns the exit status, the same in all of them.

    Process 0 makes the configuration, from the command line and the run folder.
    """
    request.check()
    with joined(ours) as together:
        check_same_command(together, process.words)
        text = together.same("config", lambda: request.asked().model_dump_json())
        config = validated(json.loads(text), "the configuration of process 0")
        set_numerics(process, config)
        experiment = open_experiment(config, request.devices, request.parallel)
        signals = SharedSignals()
        together.note(signals)
        if together.leads:
            return begin(experiment, request, signals, share=together.same_state).status
        return _follow(experiment, request.folder, signals, together, resume=request.resume)


def _follow(
    experiment: Experiment, folder: RunFolder, signals: SharedSignals, together: Together, *, resume: bool
) -> int:
    """Train as process 0 does, and write nothing."""
    state, metas = together.same_state(experiment.placement.replicate(experiment.fresh_state()), None)
    state = experiment.placement.replicate(state)
    with signals.noted():
        loop = Loop(experiment, folder, state, metas, validation_of(experiment), kind=Follower)
        try:
            loop.run(resumed=resume, signals=signals, console=new_console(file=io.StringIO()))
        except Interrupted as interrupted:
            return interrupted.status
    return 0


@contextlib.contextmanager
def joined(ours: Ours) -> Iterator[Together]:
    """Within this block the processes belong together: where one fails, all of them end, each with one line.

    UserError: they do not find each other. Within the block no error leaves it: the process ends, without what jax
    would wait for.
    """
    import jax

    with roll_call(ours):
        service = start_service(ours.coordinator, ours.processes) if ours.number == 0 else None
    together = join(ours.coordinator, ours.processes, ours.number, ours.local, service)
    if not together.leads:
        set_warning_sink(lambda line: None)  # process 0 says the same
    with telling(together), together.watched(), only_our_output() if only_cpu() else contextlib.nullcontext():
        try:
            yield together
        except UserError as error:
            _end(together, str(error), f"error: {error}", 2)
        except jax.errors.JaxRuntimeError as error:
            together.wait_for_verdict()
            _end(together, f"a failure of jax ({type(error).__name__})", traceback.format_exc(), 1)
        except BaseException as error:
            _end(together, f"a failure ({type(error).__name__})", traceback.format_exc(), 1)
        together.finish()
    leave()


@contextlib.contextmanager
def telling(together: Together) -> Iterator[None]:
    """Within this block the others hear of a signal that ends this process at once, before the first step.

    From then on `SharedSignals` answers signals. One that somebody else answers is left to them.
    """

    def tell(number: int, frame: FrameType | None) -> None:
        together.fail(ENDING[signal.Signals(number)])
        end_by_signal(number, frame)

    numbers = [number for number in ENDING if signal.getsignal(number) is end_by_signal]
    for number in numbers:
        signal.signal(number, tell)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, end_by_signal)


def _end(together: Together, reason: str, line: str, status: int) -> None:
    """End this process, once the others know."""
    together.fail(reason)
    if together.leads:
        leave_alone()
    sys.stderr.flush()
    end_at_once(line.rstrip("\n"), status)


def check_same_command(together: Together, words: tuple[str, ...]) -> None:
    """UserError: the command line of this process differs from that of process 0 in more than its number."""
    mine = common_words(words)
    theirs = json.loads(together.same("command", lambda: json.dumps(mine)))
    if mine != theirs:
        different = [word for word in mine if word not in theirs] or [word for word in theirs if word not in mine]
        came = f"the command line of process {together.number} differs ({' '.join(different)[:200] or 'its order'})"
        wanted = "the same words for every process, but for --process-id"
        raise UserError("demega-jax train", came, wanted, "give every process the same options")


def common_words(words: tuple[str, ...]) -> list[str]:
    """The words that all processes have in common: without the number of each."""
    kept, skip = [], False
    for word in words:
        if skip or word.startswith(tuple(f"{name}=" for name in OWN_OPTIONS)):
            skip = False
        elif word in OWN_OPTIONS:
            skip = True
        else:
            kept.append(word)
    return kept
