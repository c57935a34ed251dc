"""The phoneme inventory, its phonetic features, and how often English uses each phoneme."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from demega_jax.errors import UserError, listed
from demega_jax.names import PHONEMES as PHONEMES  # where nothing heavy is imported

FEATURES = tuple(
    "consonantal syllabic sonorant voice nasal continuant labial coronal dorsal high low back round diphthong".split()
)

# Distinctive features after Chomsky & Halle, The Sound Pattern of English (1968, "SPE"), with the place features
# labial, coronal and dorsal of Hayes, Introductory Phonology (2009), ch. 4. Where these leave a choice:
# - Velars are [+high, +back] and palato-alveolars [+high], as in SPE; affricates count as [-continuant].
# - /l/ is a continuant (Hayes). English /r/ is an approximant, hence [-consonantal] as glides are (Hayes); /er/ is a
#   central vowel with the coronal gesture of /r/. /hh/ has no place and, like glides, is [-consonantal] (Hayes).
# - Central vowels are [+back, -round], /ae/ is low and front, /ao/ low, back and round (SPE). Rounding is labial.
# - A diphthong has its nucleus' features. Tense non-low vowels end in a glide in English, so /iy ey ow uw/ are
#   diphthongs (SPE ch. 4, diphthongisation). The nucleus of /aw/ is front of that of /ay/ in most of North America
#   (Labov, Ash & Boberg, The Atlas of North American English, 2006).
# No stridency, length or laterality is among the 14, so /s/ equals /th/ and /z/ equals /dh/.
_OBSTRUENT = "consonantal"
_FRICATIVE = "consonantal continuant"
_NASAL = "consonantal sonorant voice nasal"
_APPROXIMANT = "sonorant voice continuant"
_VOWEL = "syllabic sonorant voice continuant dorsal"
_DIPHTHONG = f"{_VOWEL} diphthong"

_FEATURES_OF: dict[str, str] = {
    # stops and affricates
    "p": f"{_OBSTRUENT} labial",
    "b": f"{_OBSTRUENT} labial voice",
    "t": f"{_OBSTRUENT} coronal",
    "d": f"{_OBSTRUENT} coronal voice",
    "ch": f"{_OBSTRUENT} coronal high",
    "jh": f"{_OBSTRUENT} coronal high voice",
    "k": f"{_OBSTRUENT} dorsal high back",
    "g": f"{_OBSTRUENT} dorsal high back voice",
    # fricatives
    "f": f"{_FRICATIVE} labial",
    "v": f"{_FRICATIVE} labial voice",
    "th": f"{_FRICATIVE} coronal",
    "dh": f"{_FRICATIVE} coronal voice",
    "s": f"{_FRICATIVE} coronal",
    "z": f"{_FRICATIVE} coronal voice",
    "sh": f"{_FRICATIVE} coronal high",
    "zh": f"{_FRICATIVE} coronal high voice",
    "hh": "continuant",
    # nasals, liquids, glides
    "m": f"{_NASAL} labial",
    "n": f"{_NASAL} coronal",
    "ng": f"{_NASAL} dorsal high back",
    "l": f"{_APPROXIMANT} consonantal coronal",
    "r": f"{_APPROXIMANT} coronal",
    "y": f"{_APPROXIMANT} dorsal high",
    "w": f"{_APPROXIMANT} dorsal high back labial round",
    # vowels
    "ih": f"{_VOWEL} high",
    "eh": _VOWEL,
    "ae": f"{_VOWEL} low",
    "ah": f"{_VOWEL} back",
    "er": f"{_VOWEL} back coronal",
    "aa": f"{_VOWEL} low back",
    "ao": f"{_VOWEL} low back labial round",
    "uh": f"{_VOWEL} high back labial round",
    "iy": f"{_DIPHTHONG} high",
    "ey": _DIPHTHONG,
    "ay": f"{_DIPHTHONG} low back",
    "aw": f"{_DIPHTHONG} low",
    "oy": f"{_DIPHTHONG} low back labial round",
    "ow": f"{_DIPHTHONG} back labial round",
    "uw": f"{_DIPHTHONG} high back labial round",
}

# Per cent of the phonemes of running English, an approximation: the first pronunciations of the CMU Pronouncing
# Dictionary, each weighted with its word's frequency in the `wordfreq` list (English, 2021), rounded. Citation forms:
# speech reduces more vowels to /ah/ and drops some /t/ and /hh/.
ENGLISH_FREQUENCY: dict[str, float] = {
    "aa": 2.01,
    "ae": 2.58,
    "ah": 10.27,
    "ao": 1.66,
    "aw": 0.57,
    "ay": 1.88,
    "b": 1.85,
    "ch": 0.52,
    "d": 4.14,
    "dh": 2.78,
    "eh": 2.81,
    "er": 2.38,
    "ey": 1.67,
    "f": 1.84,
    "g": 0.93,
    "hh": 1.29,
    "ih": 6.18,
    "iy": 3.37,
    "jh": 0.63,
    "k": 3.34,
    "l": 4.08,
    "m": 2.94,
    "n": 7.14,
    "ng": 1.13,
    "ow": 1.39,
    "oy": 0.10,
    "p": 2.16,
    "r": 4.63,
    "s": 4.98,
    "sh": 0.84,
    "t": 7.27,
    "th": 0.41,
    "uh": 0.41,
    "uw": 2.12,
    "v": 1.96,
    "w": 1.92,
    "y": 0.96,
    "z": 2.80,
    "zh": 0.06,
}


def feature_table(classes: Sequence[str] = PHONEMES) -> Float[np.ndarray, "V F"]:
    """The distinctive features of each class: float32 values 0 and 1, columns in the order of `FEATURES`.

    Sources: Chomsky & Halle (1968), Hayes (2009); the comment at the table says what was chosen where they differ.
    UserError: a class is not a phoneme of the inventory.
    """
    unknown = [repr(name) for name in classes if name not in _FEATURES_OF]
    if unknown:
        came = f"{len(unknown)} of {len(classes)} classes have no phonetic features: {listed(unknown)}"
        way_out = "set loss.ipa_weight=0 model.ipa_width=0, or use classes from the inventory"
        raise UserError("model.classes", came, f"phonemes among {' '.join(PHONEMES)}", way_out)
    held = [set(_FEATURES_OF[name].split()) for name in classes]
    table = [[feature in features for feature in FEATURES] for features in held]
    return np.array(table, np.float32).reshape(len(classes), len(FEATURES))


def class_frequencies(classes: Sequence[str] = PHONEMES) -> Float[np.ndarray, " V"]:
    """The share of each class in running speech, float64, with a sum of 1.

    They are those of `ENGLISH_FREQUENCY` if it has every class, else those of Zipf's law: 1 / (position from 1).
    """
    if all(name in ENGLISH_FREQUENCY for name in classes):
        share = np.array([ENGLISH_FREQUENCY[name] for name in classes], np.float64)
    else:
        share = 1 / np.arange(1, len(classes) + 1, dtype=np.float64)
    return share / share.sum()


# Kinds of phonemes by manner of articulation, and the first feature in this order that a phoneme of the kind has.
_MANNERS = {"syllabic": "vowels", "nasal": "nasals", "sonorant": "approximants", "continuant": "fricatives"}
MANNERS = ("stops and affricates", "fricatives", "nasals", "approximants", "vowels")


def manner_groups(classes: Sequence[str] = PHONEMES) -> list[tuple[str, tuple[int, ...]]]:
    """The positions of classes by manner of articulation: (one of `MANNERS`, positions), without empty groups.

    Within a group the place of articulation goes from front to back, and a voiceless phoneme is before its voiced
    partner. Classes that are not all phonemes are one group "classes", in their own order.
    """
    if not all(name in _FEATURES_OF for name in classes):
        return [("classes", tuple(range(len(classes))))]
    order = list(_FEATURES_OF)
    groups: dict[str, list[int]] = {manner: [] for manner in MANNERS}
    for position in sorted(range(len(classes)), key=lambda position: order.index(classes[position])):
        held = _FEATURES_OF[classes[position]].split()
        groups[next((kind for feature, kind in _MANNERS.items() if feature in held), MANNERS[0])].append(position)
    return [(manner, tuple(positions)) for manner, positions in groups.items() if positions]
