"""Lists on the command line: `5,20,100`, the option repeated, `all`, or a range such as `5-100`."""

import math
import re
from collections.abc import Callable, Sequence

from demega_jax.errors import UserError, did_you_mean, shortened
from demega_jax.names import FEEDS, MAX_COUNT, MAX_LEVEL, PICTURES, PRECISIONS, SPLITS, TARGETS

PUBLISHED_LEVELS = tuple(range(5, 101, 5))
ALL = "all"

NUMBERS = r"all|\d+(-\d+)?"
# What an item of each list looks like. Older scripts have spaces, as in `--level 5 20 OUT`: words after the option
# belong to its list as long as they look like its items.
ITEMS = {
    "level": NUMBERS,
    "devices": NUMBERS,
    "feed": "|".join((ALL, *FEEDS)),
    "precision": "|".join((ALL, *PRECISIONS)),
    "split": "|".join((ALL, *SPLITS)),
    "target": "|".join((ALL, *TARGETS)),
    "run": r"[^:/=]+:[^:/=]+:[^:/=]+",
    "formats": "|".join((ALL, *PICTURES)),
    # Folders: every word up to the next option; for --base, also up to the next override.
    "against": r"[^-].*",
    "base": r"[^-=][^=]*",
    "secondary": r"[^-].*",
    "scores": r"[^-].*\.json",
    "split_shares": r"\d*\.?\d+",
    "subject": r"(?!)",  # as those of classes
    "task": r"(?!)",
    "classes": r"(?!)",  # names can look like anything: they are written with commas only
}


def is_list_word(name: str, word: str) -> bool:
    """Whether a word is an item, or a list of items, of the option of this name."""
    return all(re.fullmatch(ITEMS[name], item.strip()) for item in word.split(","))


def numbers(option: str, items: Sequence[str] | None, there: Callable[[], Sequence[int]]) -> list[int]:
    """Whole numbers of at least 1. `all` stands for every number that is `there`, `5-100` for those from 5 to 100.

    UserError: an item is not a number, a number is given twice, or a range holds none that is there.
    """
    named: list[int] = []
    found: list[int] = []
    for item in items or ():
        if any(len(digits.lstrip("0")) > len(str(MAX_LEVEL)) for digits in re.findall(r"\d+", item)):
            wanted = f"whole numbers of at most {MAX_LEVEL}"
            raise UserError(option, shortened(item), wanted, f"write for example {option} 5,20")
        span = re.fullmatch(r"(\d+)-(\d+)", item)
        if item == ALL or span:
            low, high = map(int, span.groups()) if span else (0, math.inf)
            some = sorted(number for number in there() if low <= number <= high)
            if not some:
                wanted = f"numbers among {', '.join(map(str, there())) or 'none'}"
                raise UserError(option, f"{item} holds none that is there", wanted, "choose some of them")
            found += some
        elif item.isdecimal() and int(item) >= 1:
            if int(item) in named:
                noun = option.strip("-").removesuffix("s") + "s"
                raise UserError(option, f"{item} is given twice", f"different {noun}", f"name {item} only once")
            named.append(int(item))
            found.append(int(item))
        else:
            wanted = "whole numbers of at least 1, a range such as 5-100, or all"
            raise UserError(option, shortened(repr(item)), wanted, f"write for example {option} 5,20")
    return list(dict.fromkeys(found))


def share(text: str) -> float:
    """A share of --split-shares. UserError: it is no number."""
    try:
        if abs(found := float(text)) <= MAX_COUNT:  # nor is NaN
            return found
    except ValueError:
        pass
    came, way_out = f"{shortened(repr(text))} is not a share", "write for example --split-shares 0.8,0.1,0.1"
    raise UserError("--split-shares", came, "three shares", way_out)


def names(option: str, items: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """Names among those that are known; `all` stands for every one. UserError: a name is not known."""
    given = items or ()
    for item in given:
        if item != ALL and item not in known:
            raise UserError(
                option, shortened(repr(item)), f"{', '.join(known[:-1])} or {known[-1]}", did_you_mean(item, known)
            )
    return [name for name in known if name in given or ALL in given]


def all_devices(count: int) -> list[int]:
    """The numbers of devices that `all` and ranges stand for: the powers of 2 up to `count`, and `count`."""
    return [n for n in range(1, count + 1) if n.bit_count() == 1 or n == count]
