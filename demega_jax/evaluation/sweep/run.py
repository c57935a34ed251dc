"""Does what is missing of a sweep: trains levels and tests their models, one cell after the other."""

from collections.abc import Callable, Iterator, Sequence

from demega_jax.errors import UserError, counted
from demega_jax.evaluation.fit import fit
from demega_jax.evaluation.model import load
from demega_jax.evaluation.sweep.cells import Cell, score_cell
from demega_jax.evaluation.sweep.plan import Sweep
from demega_jax.training.signals import Interrupted, Signals


def run_sweep(
    sweep: Sweep, levels: Sequence[int], signals: Signals, say: Callable[[str], None], devices: int | None = None
) -> None:
    """Train each of these levels, unless that is done, and test its models at every level of the sweep.

    say: shows a line of text. Interrupted: a signal came; what is finished is kept.
    """
    for trained in levels:
        missing = [tested for tested in sweep.levels if not sweep.cell(trained, tested).is_file()]
        if not missing:
            say(f"level {trained}: all cells are there")
            continue
        say(f"level {trained}: training {counted(sweep.seeds, 'seed')} side by side in {sweep.run(trained).path}")
        fit(sweep.config_of(trained), sweep.run(trained), signals, say, devices)
        model = load(sweep.run(trained).path)
        for tested in missing:
            if signals.received is not None:
                raise Interrupted(signals.received)
            cell = score_cell(sweep, model, trained, tested)
            cell.write(sweep.cell(trained, tested))
            say(f"level {trained}, tested at {tested}: macro-F1 {cell.mean:.4f} (sd {cell.deviation:.4f})")


def cells_there(sweep: Sweep) -> dict[tuple[int, int], Cell]:
    """{(trained, tested): cell} of all that are finished. UserError: one is damaged."""

    def every() -> Iterator[tuple[int, int]]:
        yield from ((trained, tested) for trained in sweep.levels for tested in sweep.levels)

    found = {pair: Cell.read(sweep.cell(*pair)) for pair in every() if sweep.cell(*pair).is_file()}
    for pair, cell in found.items():
        if (cell.trained, cell.tested, cell.split) != (*pair, sweep.split):
            came = f"the cell trained at {cell.trained}, tested at {cell.tested} on {cell.split}"
            wanted = f"the cell trained at {pair[0]}, tested at {pair[1]} on {sweep.split}"
            way_out = "delete it, and run the sweep again with --resume"
            raise UserError(sweep.cell(*pair), came, wanted, way_out)
    return found
