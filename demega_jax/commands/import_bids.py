"""`demega-jax import-bids`: recordings of a BIDS tree as a recording tree."""

import shlex
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from demega_jax.api.paths import check_out, check_there
from demega_jax.commands.shared.options import Several
from demega_jax.errors import UserError, counted
from demega_jax.saying import say, say_result

EXAMPLES = """demega-jax import-bids bids recordings

demega-jax import-bids bids recordings --subject 01,02 --task story

demega-jax group recordings data --level 1 --events all --label trial_type --splits splits.tsv"""
SUBJECT = "Only these subjects, as in the names of files without `sub-` (default: all)."
TASK = "Only these tasks, as in the names of files without `task-` (default: all)."


def command(
    bids: Annotated[Path, Argument(metavar="BIDS", help="Folder of a BIDS tree with recordings of MEG.")],
    out: Annotated[Path, Argument(metavar="OUT", help="Folder of the recording tree, which `group` reads.")],
    subject: Annotated[Several, Option(metavar="NAME,..", help=SUBJECT)] = None,
    task: Annotated[Several, Option(metavar="NAME,..", help=TASK)] = None,
) -> int:
    """Write the recordings of a BIDS tree, and their events, as a recording tree (extra bids).

    Sensors that are marked as bad are kept, and nothing is filtered.
    """
    check_there(bids, "the folder of a BIDS tree", folder=True)
    check_out(out)
    from demega_jax.data.own.bids import from_bids

    try:
        written = from_bids(bids, out, subjects=subject, tasks=task, progress=say)
    except UserError as error:
        options = {"subjects": "--subject", "tasks": "--task"}
        raise UserError(options.get(error.where, error.where), error.came, error.wanted, error.way_out) from None
    say_result(f"{out}: {counted(len(written), 'session run')}")
    say(f"next  {shlex.join(['demega-jax', 'inspect', str(out)])} shows the columns of its events")
    group = shlex.join(["demega-jax", "group", str(out), "OUT", "--level", "1", "--events", "all"])
    say(f"then  {group} --label COLUMN --splits FILE")
    return 0
