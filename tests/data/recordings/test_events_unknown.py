"""Recordings for a model of grouped files, which do not say of what events their windows are."""

from helpers.errors import assert_facts, refused

from demega_jax.config import DataConfig
from demega_jax.data.open import open_split
from demega_jax.phonemes import PHONEMES

WORDS = ("house", "tree")


def opened(tree, classes, **regroup):
    return open_split(tree, "test", DataConfig(level=1, regroup=regroup), classes=classes)


def test_classes_that_are_no_phonemes_are_refused(tree):
    with refused("house, tree", "group RECORDINGS", "--events", where=tree):
        opened(tree, WORDS)


def test_a_few_classes_that_are_named_like_phonemes_are_warned_of(tree, warnings):
    """They may be words; all 39 phonemes are phonemes."""
    opened(tree, PHONEMES[:3])
    assert_facts(" ".join(warnings), "3 classes", "other events")
    warnings.clear()
    opened(tree, PHONEMES)
    assert not any("other events" in line for line in warnings)


def test_events_that_the_configuration_states_are_taken(tree):
    """Then what is wrong is found by who reads them: these recordings have no such words."""
    with refused("no window of 125 samples", "at least one event"):
        opened(tree, WORDS, events="kind=word")
