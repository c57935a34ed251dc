"""Errors of Python functions name parameters: every form of an option in an error, and the functions themselves."""

import inspect

import pytest
from helpers.errors import refused

import demega_jax
from demega_jax.errors import UserError, warn
from demega_jax.saying import in_python


@in_python
def some(level=None, devices=None, run=None, resume=False, memory="4G", shuffle=True, split_shares=None, *, raised):
    """A function with parameters that are named as options are."""
    raise raised


@in_python
def other(runs, windows, ensemble="mean", *, raised):
    raise raised


@pytest.mark.parametrize(
    ("function", "option", "wanted"),
    [
        (some, "leave out --level", "leave out level="),
        (some, "add --level K, for example --level 20", "add level=K, for example level=20"),
        (some, "use --memory 256M or more", "use memory='256M' or more"),
        (some, "write for example --split-shares 0.8", "write for example split_shares=0.8"),
        (some, "leave out --resume or --run", "leave out resume= or run="),
        (some, "name it with --run DIR", "name it with run=DIR"),
        (some, "given beside --no-shuffle", "given beside shuffle=False"),
        (some, "name another --run. A sentence", "name another run=. A sentence"),
        (some, "use --devices 4, or fewer", "use devices=4, or fewer"),
        (some, "use --devices all", "use devices='all'"),
        (some, "see `demega-jax --help`", "see `demega-jax --help`"),  # no parameter
        (some, "add --tta", "add --tta"),
        (other, "correct --input", "correct windows="),
        (other, "choose another --run", "choose another runs="),
        (other, "leave out --ensemble weighted", "leave out ensemble='weighted'"),
    ],
)
def test_an_option_becomes_a_parameter(function, option, wanted):
    arguments = {} if function is some else {"runs": (), "windows": ()}
    with refused(where="--tta") as caught:
        function(**arguments, raised=UserError("--tta", option, option, option))
    assert (caught.value.came, caught.value.wanted, caught.value.way_out) == (wanted,) * 3


def test_where_it_is_wrong_is_a_name():
    with refused(where="level"):
        some(raised=UserError("--level", "", "", ""))
    with refused(where="devices=2"):
        some(raised=UserError("--devices 2", "", "", ""))


def test_warnings_too_and_only_while_the_function_runs(warnings):
    @in_python
    def warned(ensemble="mean"):
        warn("--ensemble weighted: the score is too good")

    warned()
    warn("--ensemble weighted: the score is too good")
    said = [line.removeprefix("warning: ").partition(":")[0] for line in warnings]
    assert said == ["ensemble='weighted'", "--ensemble weighted"]


def test_what_is_no_error_of_a_user_stays():
    with pytest.raises(ZeroDivisionError):
        some(raised=ZeroDivisionError())


@pytest.mark.parametrize("name", ["train", "evaluate", "predict", "group", "benchmark"])
def test_the_functions_keep_their_signature_and_their_text(name):
    function = getattr(__import__(f"demega_jax.api.{name}", fromlist=[name]), name)
    assert "progress" in inspect.signature(function).parameters
    assert f"`demega-jax {name}`" in function.__doc__ or name == "train"
    assert callable(getattr(demega_jax, name))
