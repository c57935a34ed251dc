"""The words of a competition's vocabulary, and the classes of a model that stand for them."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int

from demega_jax.errors import UserError
from demega_jax.names import straight
from demega_jax.reading import open_text

Apostrophe = Literal["keep", "straight", "none"]
WORDS = 50  # of the published vocabularies


def read_vocabulary(path: Path) -> tuple[str, ...]:
    """The words of a file with one line of words between commas. UserError: it is none, or names a word twice."""
    wanted, way_out = "one line of words between commas, each of them once", "give the competition's vocabulary.csv"
    try:
        with open_text(path, "utf-8-sig") as file:
            lines = [line for line in csv.reader(file) if any(word.strip() for word in line)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(path, f"it cannot be read ({reason})", wanted, way_out) from None
    words = tuple(word.strip() for word in lines[0] if word.strip()) if lines else ()
    came = f"{len(lines)} lines" if len(lines) != 1 else "one word" if len(words) < 2 else ""
    folded = [_close(word) for word in words]
    if twice := [word for number, word in enumerate(words) if folded[number] in folded[:number]]:
        came = f"the word {twice[0]} twice"
    if came:
        raise UserError(path, came, wanted, way_out)
    return words


def without(word: str) -> str:
    """A word without apostrophes."""
    return straight(word).replace("'", "")


def spelled(words: Sequence[str], apostrophe: Apostrophe) -> tuple[str, ...]:
    """The words with their apostrophes as they are, straight, or left out. UserError: two become the same."""
    if apostrophe == "keep":
        return tuple(words)
    found = tuple((straight if apostrophe == "straight" else without)(word) for word in words)
    for number, word in enumerate(found):
        if word in found[:number]:
            came = f"{apostrophe}, with which {words[found.index(word)]} and {words[number]} are the same"
            raise UserError("--apostrophe", came, "a different column for each word", "use --apostrophe keep")
    return found


def _loose(word: str) -> str:
    return without(word).casefold()


def _close(word: str) -> str:
    return straight(word).casefold()


def find_words(words: Sequence[str], vocabulary: Sequence[str]) -> Int[np.ndarray, " n"]:
    """The position in a vocabulary of each word, up to case and apostrophes; -1 for a word that is not in it.

    A word that lacks an apostrophe is only found where that leaves one word of the vocabulary: of `its` and `it's`,
    each is found by its own spelling.
    """
    close, loose = _places(vocabulary, _close), _places(vocabulary, _loose)
    return np.array([close.get(_close(word), loose.get(_loose(word), -1)) for word in words], np.int64)


def _places(vocabulary: Sequence[str], fold: Callable[[str], str]) -> dict[str, int]:
    keys = [fold(word) for word in vocabulary]
    return {key: number for number, key in enumerate(keys) if keys.count(key) == 1}


def columns_of(classes: Sequence[str], vocabulary: Sequence[str], where: object) -> Int[np.ndarray, " V"]:
    """The class that stands for each word of a vocabulary, as its position in `classes`.

    UserError: they are not the same words up to case and apostrophes; it names the first class that differs.
    """
    place = find_words(classes, vocabulary).tolist()
    wanted = f"the {len(vocabulary)} words of the vocabulary, up to case and apostrophes"
    way_out = "submit a run that was trained on these words, or give its own --vocabulary"
    for number, (name, at) in enumerate(zip(classes, place, strict=True)):
        other = place.index(at) if at >= 0 else number
        if at < 0 or other < number:
            also = f", and also {classes[other]}, for one word" if at >= 0 else ", which is not in the vocabulary"
            raise UserError(where, f"a model of {len(classes)} classes with {name}{also}", wanted, way_out)
    if lacks := [word for number, word in enumerate(vocabulary) if number not in place]:
        raise UserError(where, f"a model of {len(classes)} classes without {lacks[0]}", wanted, way_out)
    return np.argsort(np.array(place))
