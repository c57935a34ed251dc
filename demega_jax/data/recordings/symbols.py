"""From the symbols of events to classes: stress digits, symbols that are unknown, classes that vanish by them."""

import collections
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from demega_jax.data.recordings.events import PHONEME_EVENTS, EventChoice
from demega_jax.errors import UserError, counted, listed
from demega_jax.names import straight
from demega_jax.phonemes import PHONEMES, class_frequencies

STRESS = re.compile(r"(?<=[a-z])[0-2]$")  # of a vowel in the CMU dictionary: ah0, ah1, ah2
EXPECTED = 3.0  # events: a class with as many expected is absent by chance in fewer than one of 20 cases

Unknown = collections.Counter[str]


def label_symbols(
    symbols: Sequence[str], classes: Sequence[str], choice: EventChoice = PHONEME_EVENTS
) -> tuple[Int[np.ndarray, " E"], Unknown]:
    """The place in `classes` of each symbol, -1 where it is none of them, and how often each of the latter occurs.

    choice: of the events; where it has a mapping, a symbol has the class that this names. A symbol of a phoneme with a
    stress digit, such as ah1, counts as the one without it, if the one with it has no class.
    """
    place = {straight(name): i for i, name in enumerate(classes)}
    if choice.class_map is not None:
        place = {label: place[straight(name)] for label, name in choice.class_map.pairs if straight(name) in place}
    bare = [symbol if symbol in place or not choice.phonemes else STRESS.sub("", symbol) for symbol in symbols]
    labels = np.array([place.get(symbol, -1) for symbol in bare], np.int32)
    unknown = collections.Counter(symbol for symbol, label in zip(symbols, labels.tolist(), strict=True) if label < 0)
    return labels, unknown


def most_frequent(events: Sequence[Sequence[str]], most: int | None) -> tuple[str, ...]:
    """The symbols that occur most often in the events of several session runs, sorted by name; None: all symbols."""
    counts = collections.Counter(symbol for symbols in events for symbol in symbols)
    ordered = sorted(counts, key=lambda symbol: (-counts[symbol], symbol))
    return tuple(sorted(ordered[:most]))


def named(unknown: Unknown) -> str:
    """Symbols and how often they occur, the most frequent first: `ax (33), q (2)`."""
    ordered = sorted(unknown.items(), key=lambda item: (-item[1], item[0]))
    return listed(f"{symbol} ({count})" for symbol, count in ordered)


def check_vanished(where: Path, counts: Int[np.ndarray, " V"], unknown: Unknown, classes: Sequence[str]) -> None:
    """UserError: phonemes have no event, and as many events as they need have symbols that are unknown.

    counts: events of each class.  unknown: as `label_symbols` gives them, of the same events. A class is expected as
    often as English uses it. Phonemes that `classes` leaves out on purpose are not unknown here.
    """
    strange: Unknown = collections.Counter(
        {symbol: count for symbol, count in unknown.items() if STRESS.sub("", symbol) not in PHONEMES}
    )
    if not set(classes) <= set(PHONEMES):
        return  # nobody knows how often other classes are to be expected
    expected = class_frequencies(classes) * (counts.sum() + strange.total())
    vanished = (counts == 0) & (expected >= EXPECTED) & (expected / 2 <= strange.total())
    if vanished.any():
        names = " ".join(classes[i] for i in np.flatnonzero(vanished).tolist())
        events = counted(strange.total(), "event")
        came = f"no event of {names}, but {events} with symbols that are no phoneme: {named(strange)}"
        way_out = "write the symbols of the inventory into the events files, or remove those rows"
        raise UserError(where, came, f"the symbols {' '.join(classes)}, with or without stress digits", way_out)
