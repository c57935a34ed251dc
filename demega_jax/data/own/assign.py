"""Which split each window goes to: one for all, a name for each, or drawn by shares."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from demega_jax.data.shares import check_shares, split_rows, split_units
from demega_jax.errors import UserError, counted, did_you_mean, shortened
from demega_jax.names import MAX_SEED, SPLITS

WAY_OUT = 'give split="train" and so on, or shares=(0.8, 0.1, 0.1)'


def assigned(
    ids: Int[np.ndarray, " N"],
    split: str | Sequence[str] | None,
    shares: Sequence[float] | None,
    groups: ArrayLike | None,
    seed: int,
) -> np.ndarray:
    """The name of the split of each row [N]; the arguments are those of `write_grouped`. ids: the labels.

    UserError: no split, two ways to choose one, an unknown name, other lengths, too few rows or groups.
    """
    if (split is None) == (shares is None):
        came = "neither split nor shares is given" if split is None else "split and shares are both given"
        raise UserError("split", came, "one of the two", WAY_OUT)
    if groups is not None and shares is None:
        raise UserError("groups", "given without shares", "shares beside them", "add shares, or leave groups out")
    if shares is not None:
        return _drawn(ids, check_shares(shares, "shares"), groups, seed)
    names = np.full(len(ids), split, object) if isinstance(split, str) else np.asarray(split, object)
    if names.shape != ids.shape:
        came = f"an array of shape {list(names.shape)} for {len(ids)} labels"
        raise UserError("split", came, "one name, or a name for each row", "give x, labels and split of the same rows")
    for name in dict.fromkeys(names.tolist()):
        if name not in SPLITS:
            way_out = did_you_mean(str(name), SPLITS, WAY_OUT)
            raise UserError("split", shortened(repr(name)), " or ".join(SPLITS), way_out)
    return names


def _drawn(ids: Int[np.ndarray, " N"], wanted: dict[str, float], groups: ArrayLike | None, seed: int) -> np.ndarray:
    """Splits drawn by shares, of the rows of each class, or of whole groups."""
    if not 0 <= seed <= MAX_SEED:
        raise UserError("seed", f"{seed}", f"0 to {MAX_SEED}", "use seed=777")
    if groups is None:
        found = split_rows(ids, wanted, seed)
        if absent := [name for name in wanted if not (found == name).any()]:
            came = f"{len(ids)} rows, of which {absent[0]} would have none"
            raise UserError("shares", came, "rows for every split", "give more rows, or set this share to 0")
        return found
    of_row = np.asarray(groups)
    if of_row.shape != ids.shape:
        came = f"an array of shape {list(of_row.shape)} for {len(ids)} labels"
        raise UserError("groups", came, "a name or number for each row", "give groups of the same rows")
    units, unit, sizes = np.unique(of_row, return_inverse=True, return_counts=True)
    if len(units) < len(wanted):
        came = f"{counted(len(units), 'group')} for {len(wanted)} splits"
        raise UserError("groups", came, "at least one group for each split", "set a share to 0, or leave groups out")
    return np.array(split_units(sizes.tolist(), wanted, seed), object)[unit]
