"""Text from outside is printed letter for letter, in every kind of place that a console has."""

import ast
import io

import pytest
from helpers import ROOT
from rich.columns import Columns
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from demega_jax.console import new_console
from demega_jax.errors import UserError, counted, printable, warn

ODD = ["a[/b]c", "x[bold]y", ":ok: :smile:", "[link=x]y[/link]", "\\[b]", "5 'and' True"]


@pytest.mark.parametrize("text", ODD)
def test_markup_and_emoji_are_letters(text):
    written = io.StringIO()
    console = new_console(file=written, width=60)
    console.print(text)
    table = Table(text, title=text, caption=text)
    table.add_row(text)
    console.print(table)
    console.print(Padding(text, (0, 0, 0, 2)))
    console.print(Columns([text, text]))
    assert written.getvalue().count(text) == 8


def test_noun_and_verb_agree_with_their_number():
    assert (counted(1, "row"), counted(0, "row"), counted(1200, "class")) == ("1 row", "0 rows", "1,200 classes")
    verbs = (counted(1, "row", "are"), counted(1, "row", "run"), counted(2, "row", "have"))
    assert verbs == ("1 row is", "1 row runs", "2 rows have")


def test_what_a_terminal_would_act_on_is_a_code(warnings):
    evil, shown = "a\x1b[2Jb\x07\u202ec", "a\\x1b[2Jb\\x07\\u202ec"
    written = io.StringIO()
    table = Table(evil)
    table.add_row(evil)
    console = new_console(file=written, width=60)
    console.print(evil)
    console.print(table)
    assert written.getvalue().count(shown) == 3
    console.print(Text(evil))  # whose own bell rich leaves out
    assert written.getvalue().count(shown.replace("\\x07", "")) == 1
    assert "\x1b" not in written.getvalue() and "\u202e" not in written.getvalue()
    assert printable(f"{evil}\n\tä€") == f"{shown}\n\tä€"
    assert str(UserError(evil, "x", "y", "z")).startswith(f"{shown}: x.")
    warn(evil)
    assert warnings == [f"warning: {shown}"]


def test_styles_still_reach_a_terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    console = new_console(file=(written := io.StringIO()))
    console.print("text", style="bold")
    assert "\x1b[" in written.getvalue()


def test_no_other_file_makes_a_console():
    """Nor asks for markup, which would be a second home."""
    for path in sorted((ROOT / "demega_jax").rglob("*.py")):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        names = {ast.unparse(call.func).rpartition(".")[2] for call in calls}
        keywords = {keyword.arg: ast.unparse(keyword.value) for call in calls for keyword in call.keywords}
        assert not names & {"Console", "from_markup", "render_markup"}, path
        assert keywords.get("markup", "False") == "False" and keywords.get("emoji", "False") == "False", path


def test_a_pipe_has_every_column(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    table = Table(*(f"column {number:02}" for number in range(12)))
    table.add_row(*("0123456789" for _ in range(12)))
    console = new_console(file=(written := io.StringIO()))
    console.print(table)
    assert "column 11" in written.getvalue() and written.getvalue().count("0123456789") == 12
    monkeypatch.setenv("COLUMNS", "70")
    assert new_console(file=io.StringIO()).width == 70
    assert new_console(file=io.StringIO(), width=50).width == 50
