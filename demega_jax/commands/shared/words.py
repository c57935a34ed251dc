"""The words of a command line before Typer reads them: lists, overrides, and misspelt words."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from demega_jax.api.lists import is_list_word
from demega_jax.commands.shared.processes import check_one_task
from demega_jax.errors import UserError, did_you_mean, shortened
from demega_jax.files import expanded


class Group(TyperGroup):
    """The commands by name. An unknown one is refused, with the nearest known one."""

    def get_params(self, ctx: typer.Context) -> list[Any]:  # type: ignore[override]
        """The parameters, with plain help."""
        return [_plain(parameter) for parameter in super().get_params(ctx)]

    def resolve_command(self, ctx: typer.Context, args: list[str]):  # type: ignore[no-untyped-def, override]
        """The command of the first word. UserError: there is no such command."""
        known = self.list_commands(ctx)
        if args and args[0] not in known and not ctx.resilient_parsing:
            way_out = did_you_mean(args[0], known, "see `demega-jax --help`")
            raise UserError("demega-jax", f"unknown command {args[0]}", f"one of {', '.join(known)}", way_out)
        return super().resolve_command(ctx, args)


class Command(TyperCommand):
    """A command with lists, and with overrides anywhere after it."""

    def get_params(self, ctx: typer.Context) -> list[Any]:  # type: ignore[override]
        """The parameters, with plain help."""
        return [_plain(parameter) for parameter in super().get_params(ctx)]

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Sort the words, then let Typer read all but the overrides."""
        if ctx.resilient_parsing:  # the shell completes a line
            return super().parse_args(ctx, args)
        parameters = self.get_params(ctx)
        options = {word: one for one in parameters if one.param_type_name == "option" for word in one.opts}
        overridable = any(parameter.name == "overrides" for parameter in parameters)
        sorted_words = sort_words(args, options, ctx.command_path, overridable)
        try:
            rest = super().parse_args(ctx, list(sorted_words.words))  # which it uses up
        except typer.TyperException as error:
            raise _refused(error, ctx.command_path, sorted_words.given) from None
        check_one_task(self.name or "", sorted_words.words)
        if overridable:
            if ctx.params["overrides"]:
                came = f"unexpected word {ctx.params['overrides'][0]}"
                raise UserError(ctx.command_path, came, "section.key=value", f"see `{ctx.command_path} --help`")
            ctx.params["overrides"] = sorted_words.overrides
        return rest


def _refused(error: typer.TyperException, command: str, given: dict[str, str]) -> UserError:
    """The error of words that Typer refuses, with the value that was given and the nearest one that fits."""
    see = f"see `{command} --help`"
    if not isinstance(error, typer.BadParameter) or error.param is None:
        return UserError(command, error.format_message().rstrip("."), "the arguments and options of this command", see)
    parameter: Any = error.param
    word = parameter.opts[-1] if parameter.param_type_name == "option" else parameter.metavar
    if word not in given:
        return UserError(command, f"no {word}", parameter.help.rstrip("."), see)
    # "Input should be a valid integer, unable to .." of pydantic, "'x' is not one of 'a', 'b'" of Typer
    wanted = error.message.rpartition("Input should be ")[2].partition(", unable")[0].rpartition(" is not ")[2]
    if wanted.startswith("Unable to parse"):  # thousands of digits
        wanted = "a number that can be read"
    choices = re.findall("'([^']+)'", wanted)
    return UserError(word, shortened(repr(given[word])), wanted.rstrip("."), did_you_mean(given[word], choices, see))


def _plain(parameter: Any) -> Any:
    """A parameter whose help leaves out types such as `<bool>` and `<list[str]>`, which say nothing new."""
    if parameter.param_type_name == "argument" or parameter.is_flag:
        parameter.display_type_rich = lambda ctx: None
    return parameter


@dataclasses.dataclass
class Sorted:
    """words: those for Typer, with the option before every item of a list.  overrides: words `section.key=value`.

    given: the value of each option that takes a single one.
    """

    words: list[str] = dataclasses.field(default_factory=list)
    overrides: list[str] = dataclasses.field(default_factory=list)
    given: dict[str, str] = dataclasses.field(default_factory=dict)


UNSET = "write one; perhaps a variable of the shell is not set"
CHECKPOINTS = (".ckpt", ".safetensors")  # files with names such as epoch=3-step=40.ckpt


def is_override(word: str) -> bool:
    """Whether a word has the form `key=value`, and is not a path with an = in it."""
    key, equals, _ = word.partition("=")
    return bool(equals) and not word.startswith("-") and "/" not in key and not word.endswith(CHECKPOINTS)


def home(word: str) -> str:
    """A word with the home folder for `~/`, which a shell leaves as it is in `--data=~/x` and within quotes."""
    return expanded(word) if word.startswith("~") else word


def sort_words(args: Sequence[str], options: Mapping[str, Any], command: str, overridable: bool) -> Sorted:
    """Sort the words after a command. UserError: an option is unknown, has no value, or is given twice.

    options: the parameters of the command by the words that name them.
    """
    found, left = Sorted(), [home(word) for word in args]
    while left:
        word = left.pop(0)
        if not word:
            raise UserError(command, "an empty word", "a name or a value", UNSET)
        if word == "--":
            found.words += [word, *left]
            break
        if not word.startswith("-") or word == "-":
            (found.overrides if overridable and is_override(word) else found.words).append(word)
            continue
        name, equals, value = word.partition("=")
        value = home(value)
        if name not in options:
            way_out = did_you_mean(name, options, f"see `{command} --help`")
            raise UserError(command, f"unknown option {shortened(name)}", "an option of this command", way_out)
        if options[name].is_flag:
            found.words.append(word)
            continue
        if not equals:
            if not left or left[0].partition("=")[0] in options:
                raise UserError(name, "no value", "a value after it", f"write {name} VALUE")
            value = left.pop(0)
        if not value:
            raise UserError(name, "an empty value", "a value after it", UNSET)
        if options[name].multiple:
            found.words += [part for item in _items(name, options[name].name, value, left) for part in (name, item)]
            continue
        if name in found.given:
            came = f"given twice, as {found.given[name]} and as {value}"
            raise UserError(name, came, "only one value", f"leave one {name} out")
        found.given[name] = value
        found.words += [name, value]
    return found


def _items(word: str, name: str, value: str, left: list[str]) -> list[str]:
    """The items of a list: those of a value, and those that are taken from the words that are left."""
    while left and is_list_word(name, left[0]):
        value += f",{left.pop(0)}"
    items = [home(item.strip()) for item in value.split(",")]
    if "" in items:
        came = f"an empty item in {value!r}"
        raise UserError(word, came, "a list such as 5,20", "write an item between any two commas")
    return items
