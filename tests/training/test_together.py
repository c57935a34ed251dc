"""What processes tell each other, with a store of messages in memory and a clock that the tests move."""

import threading
from collections.abc import Callable

import pytest

from demega_jax.training.together import LOST_AFTER, SharedSignals, Store, Together


class Messages(Store):
    """A store of messages that several `Together`s share."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        assert allow_overwrite or key not in self.values, f"{key} is set twice"
        self.values[key] = value

    def blocking_key_value_get(self, key: str, timeout_in_ms: int) -> str:
        return self.values[key]

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        return [(name, value) for name, value in self.values.items() if name.startswith(key)]


class Several:
    """Processes 0 .. count-1; `left` has the last line of each that has been ended."""

    def __init__(self, count: int) -> None:
        self.now, self.left = 0.0, {}
        store = Messages()
        self.each = [
            Together(store, number, count, clock=lambda: self.now, end=self._ending(number)) for number in range(count)
        ]

    def _ending(self, number: int) -> Callable[[str], None]:
        return lambda line: self.left.setdefault(number, line)


def test_the_text_of_the_leader_is_that_of_all():
    one, other = Several(2).each
    assert one.same("config", lambda: "of the leader") == "of the leader"
    assert other.same("config", lambda: "of the follower") == "of the leader"


def test_nobody_goes_on_before_all_have_met():
    one, other = Several(2).each
    order: list[str] = []

    def first() -> None:
        one.meet("devices")
        order.append("one goes on")

    waiting = threading.Thread(target=first)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    order.append("other comes")
    other.meet("devices")
    waiting.join(10)
    assert order == ["other comes", "one goes on"]


def test_a_silent_process_is_lost_after_the_stated_time():
    several = Several(3)
    for one in [*several.each * 2, *several.each[:2]]:  # all have heard the last turn of each
        one.look()
    for _ in range(LOST_AFTER):
        several.now += 1
        for one in several.each[:2]:
            one.look()
    assert several.left == {}
    several.now += 1
    several.each[0].look()
    assert several.left[0].startswith(f"error: process 2 is lost: nothing was heard of it for {LOST_AFTER} s")


def test_a_process_that_never_speaks_is_lost_too():
    several = Several(2)
    several.each[0].look()
    several.now += LOST_AFTER + 1
    several.each[0].look()
    assert "process 1 is lost" in several.left[0]


def test_a_failure_is_told_to_all_others():
    several = Several(3)
    several.each[1].fail("no such folder.")
    for one in several.each:
        one.look()
    assert several.left == {
        0: "error: process 1 has ended, and so does process 0: no such folder.",
        2: "error: process 1 has ended, and so does process 2: no such folder.",
    }


@pytest.mark.parametrize(
    ("started", "last"),
    [((3, 7), 7), ((7, 3), 7), ((5, 5), 5), ((0, 0), 0), ((0, 9), 9)],
)
def test_all_stop_after_the_last_step_that_one_has_started(started, last):
    several, signals = Several(2), [SharedSignals(), SharedSignals()]
    for one, its, upto in zip(several.each, signals, started, strict=True):
        one.note(its)
        for step in range(upto):
            assert not its.stops_after(step, step + 1)
    signals[1].received = 15
    for _ in range(3):
        for one in several.each:
            one.look()
    for its, upto in zip(signals, started, strict=True):
        assert its.received == 15
        stops = next(step for step in range(upto, 100) if its.stops_after(step, step + 1))
        assert stops == max(last, upto)


def test_a_process_waits_for_the_step_of_one_that_is_ahead():
    """It may not start a step more before it knows how far the others are, and goes on to there."""
    several, signals = Several(2), [SharedSignals(), SharedSignals()]
    for one, its in zip(several.each, signals, strict=True):
        one.note(its)
    assert not signals[1].stops_after(4, 5)
    signals[0].received = 2
    several.each[0].look()
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(signals[0].stops_after(1, 2)))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    several.each[1].look()
    several.each[0].look()
    waiting.join(5)
    assert answers == [False]
    assert [signals[0].stops_after(step, step + 1) for step in (4, 5)] == [False, True]
    assert signals[1].stops_after(5, 6)


def test_two_signals_at_once_are_one():
    several, signals = Several(2), [SharedSignals(), SharedSignals()]
    for one, its, number in zip(several.each, signals, (15, 2), strict=True):
        one.note(its)
        its.received = number
    for _ in range(3):
        for one in several.each:
            one.look()
    assert [its.stops_after(3, 4) for its in signals] == [True, True]
