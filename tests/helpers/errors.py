"""What the user is told, by its facts: a file, a key, a value, the word that leads out; never whole sentences."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from demega_jax.errors import UserError
from helpers.runs import run_command


def has_fact(text: str, fact: object) -> bool:
    """Whether a fact stands in a text as whole words: `row 13` is not in `row 130`. Capitals make no difference."""
    words = str(fact)
    before, after = (r"(?<!\w)" if words[0].isalnum() else ""), (r"(?!\w)" if words[-1].isalnum() else "")
    return re.search(before + re.escape(words) + after, text, re.IGNORECASE) is not None


def assert_facts(text: str, *facts: object) -> None:
    """Every fact is in the text."""
    missing = [fact for fact in facts if not has_fact(text, fact)]
    assert not missing, f"{missing} not in: {text}"


@contextmanager
def refused(*facts: object, where: object = None) -> Iterator[pytest.ExceptionInfo[UserError]]:
    """What is done within raises a `UserError` of one line with these facts, about `where`."""
    with pytest.raises(UserError) as caught:
        yield caught
    assert_facts(str(caught.value), *facts)
    assert "\n" not in str(caught.value)
    if where is not None:
        assert caught.value.where == str(where)


def fails_with(capsys, arguments: list, *facts: object) -> str:
    """The one `error:` line, with these facts, of a command that ends with exit status 2."""
    capsys.readouterr()
    status = run_command(*arguments)
    lines = capsys.readouterr().err.splitlines()
    assert status == 2, lines
    others = [line for line in lines if not line.startswith("warning: ")]
    assert len(others) == 1 and others[0].startswith("error: "), lines
    assert_facts(others[0], *facts)
    return others[0]


def the_warning(lines: list[str], *facts: object) -> str:
    """The only warning among the lines, which has these facts."""
    found = [line for line in lines if line.startswith("warning: ")]
    assert len(found) == 1, found
    assert_facts(found[0], *facts)
    return found[0]
