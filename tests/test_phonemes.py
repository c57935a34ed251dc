"""The inventory and its features, against statements any phonology textbook makes."""

import numpy as np
import pytest

from demega_jax.errors import UserError
from demega_jax.phonemes import (
    ENGLISH_FREQUENCY,
    FEATURES,
    MANNERS,
    PHONEMES,
    class_frequencies,
    feature_table,
    manner_groups,
)

# The natural classes, listed by hand.
NATURAL_CLASSES = {
    "syllabic": "aa ae ah ao aw ay eh er ey ih iy ow oy uh uw",
    "nasal": "m n ng",
    "consonantal": "b ch d dh f g jh k l m n ng p s sh t th v z zh",
    "sonorant": "aa ae ah ao aw ay eh er ey ih iy ow oy uh uw m n ng l r w y",
    "voice": "aa ae ah ao aw ay eh er ey ih iy ow oy uh uw m n ng l r w y b d g v dh z zh jh",
    "continuant": "aa ae ah ao aw ay eh er ey ih iy ow oy uh uw l r w y f v th dh s z sh zh hh",
    "labial": "p b f v m w ao oy ow uh uw",
    "coronal": "t d ch jh th dh s z sh zh n l r er",
    "dorsal": "k g ng w y aa ae ah ao aw ay eh er ey ih iy ow oy uh uw",
    "high": "ch jh sh zh k g ng w y ih iy uh uw",
    "low": "aa ae ao aw ay oy",
    "back": "k g ng w aa ah ao ay er ow oy uh uw",
    "round": "w ao oy ow uh uw",
    "diphthong": "aw ay ey iy ow oy uw",
}


def test_inventory_is_the_39_phonemes_in_alphabetic_order():
    assert len(PHONEMES) == 39 and list(PHONEMES) == sorted(set(PHONEMES))
    assert len(FEATURES) == 14 and set(NATURAL_CLASSES) == set(FEATURES)


@pytest.mark.parametrize("feature", FEATURES)
def test_feature_holds_for_its_natural_class(feature):
    column = feature_table()[:, FEATURES.index(feature)]
    assert {PHONEMES[i] for i in np.flatnonzero(column)} == set(NATURAL_CLASSES[feature].split())


def test_table_is_float32_zeros_and_ones_in_the_order_asked_for():
    table = feature_table()
    assert table.dtype == np.float32 and table.shape == (39, 14) and set(np.unique(table)) == {0.0, 1.0}
    np.testing.assert_array_equal(feature_table(("zh", "aa")), table[[38, 0]])
    assert feature_table(()).shape == (0, 14)


@pytest.mark.parametrize("voiceless, voiced", ["pb", "td", "kg", "fv", "sz", ("th", "dh"), ("sh", "zh"), ("ch", "jh")])
def test_voicing_pairs_differ_in_voice_alone(voiceless, voiced):
    difference = np.subtract(*feature_table((voiced, voiceless)))
    assert [FEATURES[i] for i in np.flatnonzero(difference)] == ["voice"]


def test_rows_that_are_equal():
    table = feature_table()
    equal = [
        (PHONEMES[i], PHONEMES[j]) for i in range(39) for j in range(i + 1, 39) if np.array_equal(table[i], table[j])
    ]
    assert equal == [("dh", "z"), ("s", "th")]


def test_unknown_class_is_refused_with_a_way_out():
    with pytest.raises(UserError, match="'cat'.*loss.ipa_weight=0 model.ipa_width=0"):
        feature_table(("aa", "cat"))


def test_frequencies_sum_to_one_and_rank_as_english_does():
    share = class_frequencies()
    assert set(ENGLISH_FREQUENCY) == set(PHONEMES)
    assert share.sum() == pytest.approx(1, abs=1e-12) and share.min() > 0
    order = [PHONEMES[i] for i in np.argsort(-share)]
    assert order[0] == "ah" and set(order[1:5]) == {"t", "n", "ih", "s"} and order[-1] == "zh"
    np.testing.assert_allclose(class_frequencies(("t", "oy")), np.array([7.27, 0.10]) / 7.37)


def test_other_classes_get_frequencies_by_rank():
    np.testing.assert_allclose(class_frequencies(("cat", "dog", "aa")), np.array([6, 3, 2]) / 11)


def test_manners_hold_every_phoneme_once_with_partners_side_by_side():
    groups = {name: [PHONEMES[position] for position in positions] for name, positions in manner_groups()}
    assert sorted(phoneme for group in groups.values() for phoneme in group) == sorted(PHONEMES)
    assert groups["stops and affricates"] == "p b t d ch jh k g".split()
    assert groups["fricatives"] == "f v th dh s z sh zh hh".split()
    assert groups["nasals"] == "m n ng".split()
    assert groups["approximants"] == "l r y w".split()
    assert len(groups["vowels"]) == 15 and list(groups) == list(MANNERS)


def test_classes_that_are_no_phonemes_are_one_group_in_their_order():
    assert manner_groups(("right", "left")) == [("classes", (0, 1))]
    assert manner_groups(("iy", "p")) == [("stops and affricates", (1,)), ("vowels", (0,))]
