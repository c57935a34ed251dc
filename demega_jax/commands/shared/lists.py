"""Lists on the command line, written in one way: `5,20,100`, the option repeated, `all`, and ranges as `5-100`."""

import difflib
import re
from collections.abc import Callable, Sequence

from demega_jax.errors import UserError
from demega_jax.names import FEEDS, PRECISIONS, SPLITS

PUBLISHED_LEVELS = tuple(range(5, 101, 5))
ALL = "all"

_NUMBERS = re.compile(r"all|\d+(-\d+)?")
# What an item of each list looks like. `--level 5 20 OUT` is written with spaces in older scripts: the words that
# follow the option belong to its list as long as they look like its items.
ITEMS = {
    "level": _NUMBERS,
    "devices": _NUMBERS,
    "feed": re.compile("|".join((ALL, *FEEDS))),
    "precision": re.compile("|".join((ALL, *PRECISIONS))),
    "split": re.compile("|".join((ALL, *SPLITS))),
    "run": re.compile(r"[^:/=]+:[^:/=]+:[^:/=]+"),
    "split_shares": re.compile(r"\d*\.?\d+"),
}


def is_list_word(name: str, word: str) -> bool:
    """Whether a word is a list of items (or one item) of the list option of this name."""
    return all(ITEMS[name].fullmatch(item.strip()) for item in word.split(","))


def numbers(option: str, items: Sequence[str], there: Callable[[], Sequence[int]]) -> list[int]:
    """Whole numbers from 1 on. `all` is every number that is `there`, `5-100` those of them within the range.

    UserError: no such number, a number given twice, or a range that holds none.
    """
    named: list[int] = []
    found: list[int] = []
    for item in items:
        first, dash, last = item.partition("-")
        if item == ALL:
            found += _some(option, item, there(), there())
        elif dash and first.isdecimal() and last.isdecimal():
            found += _some(option, item, [n for n in there() if int(first) <= n <= int(last)], there())
        elif item.isdecimal() and int(item) >= 1:
            if int(item) in named:
                noun = option.strip("-").removesuffix("s") + "s"
                raise UserError(option, f"{item} given twice", f"different {noun}", f"name {item} once")
            named.append(int(item))
            found.append(int(item))
        else:
            wanted = "whole numbers of at least 1, a range such as 5-100, or all"
            raise UserError(option, repr(item), wanted, f"write for example {option} 5,20")
    return list(dict.fromkeys(found))


def check_numbers(option: str, items: Sequence[str]) -> None:
    """UserError: items that cannot be numbers from 1 on, a range or `all`, whatever is there."""
    numbers(option, items, lambda: range(1, 10_000))


def _some(option: str, item: str, found: Sequence[int], there: Sequence[int]) -> list[int]:
    if not found:
        listed = ", ".join(map(str, there)) or "none"
        raise UserError(option, f"{item} holds none that is there", f"one of {listed}", "choose other numbers")
    return sorted(found)


def names(option: str, items: Sequence[str], known: Sequence[str]) -> list[str]:
    """Names among those that are known; `all` is every one. UserError, with the nearest known name: another."""
    for item in items:
        if item != ALL and item not in known:
            raise UserError(option, repr(item), f"{', '.join(known[:-1])} or {known[-1]}", did_you_mean(item, known))
    return [name for name in known if name in items] if ALL not in items else list(known)


def did_you_mean(word: str, known: Sequence[str], otherwise: str = "choose one of them") -> str:
    """The way out of a misspelt word: the nearest known one, if one is near."""
    near = difflib.get_close_matches(word, known, 1)
    return f"did you mean {near[0]}?" if near else otherwise


def all_devices(count: int) -> list[int]:
    """Numbers of devices that `all` and ranges choose from: 1, 2, 4 .. and all that there are."""
    return [n for n in range(1, count + 1) if n.bit_count() == 1 or n == count]
