"""Several processes that carry out one command: they join, make sure that they mean the same, and end together."""

import contextlib
import hashlib
import json
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn

import jax
import numpy as np

from demega_jax.commands.shared.interrupts import ENDING
from demega_jax.commands.shared.interrupts import end_at_once as end_by_signal
from demega_jax.commands.shared.process import only_cpu
from demega_jax.commands.shared.processes import Ours
from demega_jax.commands.shared.roll_call import roll_call
from demega_jax.data.split import LabelledRows
from demega_jax.errors import UserError, listed, set_warning_sink, without_reader
from demega_jax.evaluation.model import Model
from demega_jax.training.joining import join, leave, leave_alone, only_our_output, start_service
from demega_jax.training.together import Together, end_at_once

OWN_OPTIONS = ("--process-id",)  # what may differ between the command lines of the processes


@contextlib.contextmanager
def joined(ours: Ours) -> Iterator[Together]:
    """Within this block the processes belong together: where one fails, all of them end, each with one line.

    UserError: they do not find each other. Within the block no error leaves it: the process ends, without what jax
    would wait for.
    """
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
        except BaseException as error:  # a bug, or Ctrl-C: the others must hear of it, and jax would wait for them
            if without_reader(error):
                _end(together, "nobody reads its output any more", "", 128 + signal.SIGPIPE)
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


def _end(together: Together, reason: str, line: str, status: int) -> NoReturn:
    """End this process, once the others know. line: what it says of it; empty: nothing."""
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
        raise UserError(f"demega-jax {words[0]}", came, wanted, "give every process the same options")


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


def check_same_rows(together: Together, *splits: LabelledRows) -> None:
    """UserError: the rows that this process sees are not those of process 0, so that the two would wait for each other
    without end, or count other rows than there are. What is compared is their shape, their classes and their labels."""
    mine = [_digest(split) for split in splits]
    theirs = json.loads(together.same("rows", lambda: json.dumps(mine)))
    for split, own, other in zip(splits, mine, theirs, strict=True):
        if own != other:
            came = f"process {together.number} sees other rows or labels there than process 0"
            raise UserError(split.path, came, "the same data for every process", "give every process the same files")


def _digest(split: LabelledRows) -> str:
    facts = json.dumps([split.rows, split.sensors, split.time_points, split.classes])
    return hashlib.sha256(facts.encode() + split.labels.astype("<i8").tobytes()).hexdigest()


def check_same_models(together: Together, models: Sequence[Model]) -> None:
    """UserError: a model that this process has read is not that of process 0, as where a folder is not shared, or where
    training has saved a better step in between."""
    mine = [_digest_of_arrays(model) for model in models]
    theirs = json.loads(together.same("models", lambda: json.dumps(mine)))
    for model, own, other in zip(models, mine, theirs, strict=True):
        if own != other:
            which = f"another checkpoint (step {listed(model.steps)})"
            came = f"process {together.number} has read {which} there than process 0"
            way_out = "give every process the same folder, and wait until training has ended"
            raise UserError(model.name, came, "the same model in every process", way_out)


def _digest_of_arrays(model: Model) -> str:
    digest = hashlib.sha256(json.dumps(model.steps).encode())
    for leaf in jax.tree.leaves((model.params, model.buffers)):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
