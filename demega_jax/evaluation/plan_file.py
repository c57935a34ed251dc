"""The file that says what a folder of several stages is made of, so that only the same work is continued there."""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from demega_jax.config.load import validated
from demega_jax.errors import NEWER, UserError
from demega_jax.files import visible, write_text
from demega_jax.reading import read_json

FORMAT = 1


def begin_or_join(path: Path, what: str, plan: Mapping[str, object], *, join: bool) -> None:
    """Write the plan into a new folder, or join the work there if its plan is the same.

    path: of the file.  what: one word, for messages.  plan: in plain Python types; `config` is a whole configuration.
    UserError: there is such work and join is false, or it is other work, or the folder holds something else.
    """
    folder = path.parent
    if not path.is_file():
        if folder.is_dir() and any(visible(folder)):
            came = f"the folder is not empty and holds no {what}"
            raise UserError(folder, came, f"a new folder for a new {what}", "choose another --run")
        write_text(path, json.dumps({"format": FORMAT, **plan}, indent=1) + "\n", "choose another --run")
        return
    if not join:
        way_out = "continue it with --resume, or choose another --run"
        came = f"the folder is not empty: it holds a {what}"
        raise UserError(folder, came, f"a new folder for a new {what}", way_out)
    there = _read(path, what)
    for key, value in plan.items():
        if there.get(key) != value:
            came = f"another {what}: {_difference(key, there.get(key), value)}"
            raise UserError(folder, came, f"the same {what} as before", "choose another --run")


@contextlib.contextmanager
def undone_on_failure(path: Path) -> Iterator[None]:
    """Remove a plan that is begun within this block, and its folder, where the block fails before it has made anything.

    path: of the file.
    """
    begun_before, there_before = path.exists(), path.parent.exists()
    try:
        yield
    except BaseException:  # also Ctrl-C and SIGTERM; it goes on below, once the folder is as it was
        made = [one for one in visible(path.parent, "**/*") if one != path and not one.is_dir()]
        if not begun_before and path.exists() and not made:
            path.unlink()
            if not there_before:
                shutil.rmtree(path.parent, ignore_errors=True)
        raise


def _read(path: Path, what: str) -> dict[str, object]:
    wanted, way_out = f"the plan of a {what}", "choose another --run"
    try:
        found = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(path, f"it cannot be read ({' '.join(str(error).split())})", wanted, way_out) from None
    number = found.get("format") if isinstance(found, dict) else None
    if not isinstance(number, int):
        raise UserError(path, f"it describes no {what}", wanted, way_out)
    if number > FORMAT:
        raise UserError(path, f"format {number}", f"format {FORMAT} or older", NEWER)
    # Keys that came later have their defaults.
    return found | {"config": validated(found.get("config"), str(path)).model_dump(mode="json")}


def _difference(key: str, old: object, new: object) -> str:
    """The first key in which two values differ, with both."""
    if isinstance(old, dict) and isinstance(new, dict):
        name = next(name for name in {**old, **new} if old.get(name) != new.get(name))
        return _difference(name if key == "config" else f"{key}.{name}", old.get(name), new.get(name))
    return f"{key} was {old} and is {new}"
