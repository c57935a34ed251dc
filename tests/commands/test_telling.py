"""A signal before the first step of one of several processes: the others are told before it ends."""

import signal

import pytest

from demega_jax.commands.shared import joined
from demega_jax.commands.shared.joined import telling


class Told:
    """Stands for the others: what they were told, in order with the end of this process."""

    def __init__(self):
        self.log: list[object] = []

    def fail(self, message: str) -> None:
        self.log.append(message)

    def end(self, number: int, frame: object) -> None:
        self.log.append(number)


@pytest.mark.parametrize(("number", "words"), [(signal.SIGTERM, "ended by SIGTERM"), (signal.SIGINT, "interrupted")])
def test_the_others_are_told_first(monkeypatch, number, words):
    told = Told()
    monkeypatch.setattr(joined, "end_by_signal", told.end)
    before = signal.signal(number, joined.end_by_signal)
    try:
        with telling(told):
            signal.raise_signal(number)
        assert told.log == [words, number]
        signal.raise_signal(number)
        assert told.log == [words, number, number]  # afterwards the process ends as it did before
    finally:
        signal.signal(number, before)


def test_an_answer_of_somebody_else_stays(monkeypatch):
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with telling(told := Told()):
            signal.raise_signal(signal.SIGTERM)
        assert (heard, told.log) == ([signal.SIGTERM], [])
    finally:
        signal.signal(signal.SIGTERM, before)
