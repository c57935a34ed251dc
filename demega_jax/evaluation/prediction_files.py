"""Files of predictions: CSV, a line for each row, written as the rows come; or NPZ, with logits and embeddings."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from demega_jax.data.split import UNKNOWN
from demega_jax.evaluation.predict import Predictions, joined
from demega_jax.files import output

PREFIX = "p_"  # of the columns with probabilities, so that a class can have any name
Rows = tuple[Predictions, Float[np.ndarray, "n V"]]  # the predictions of models, and of their ensemble


def write_predictions(path: Path, batches: Iterable[Rows], classes: Sequence[str], *, labelled: bool) -> None:
    """Write the predictions of all batches to a .csv or .npz file, which has its name only when it is complete."""
    (write_csv if path.suffix == ".csv" else write_npz)(path, batches, classes, labelled=labelled)


def write_csv(path: Path, batches: Iterable[Rows], classes: Sequence[str], *, labelled: bool) -> None:
    """Columns row, label (where rows have labels), predicted, and p_NAME, the probability of each class."""
    header = ["row", *(["label"] if labelled else []), "predicted", *(PREFIX + name for name in classes)]
    with _text(path) as write:
        write(",".join(map(_quoted, header)) + "\n")
        row = 0
        for found, p in batches:
            for label, of_row in zip(found.labels, p, strict=True):
                said = [classes[label] if label != UNKNOWN else ""] if labelled else []
                names = [_quoted(name) for name in (*said, classes[int(of_row.argmax())])]
                write(",".join([str(row), *names, *(f"{value:.7g}" for value in of_row)]) + "\n")
                row += 1


def write_npz(path: Path, batches: Iterable[Rows], classes: Sequence[str], *, labelled: bool) -> None:
    """Arrays probabilities [N, V] of the ensemble, logits [M, N, V] and models [M], classes [V]; labels [N] where rows
    have labels; tta [M, N, V] and embedding [m, N, Z] (embedding_0, .. for several runs) where they were asked for.
    """
    parts = list(batches)
    found = joined([part for part, _ in parts])
    arrays = {
        "probabilities": np.concatenate([p for _, p in parts]),
        "logits": found.logits,
        "models": np.array(found.names),
        "classes": np.array(classes),
    }
    if labelled:
        arrays["labels"] = found.labels
    if found.tta is not None:
        arrays["tta"] = found.tta
    several = len(found.embeddings) > 1
    arrays |= {f"embedding_{i}" if several else "embedding": each for i, each in enumerate(found.embeddings)}
    with output(path, "choose another --output") as aside, aside.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


@contextlib.contextmanager
def _text(path: Path) -> Iterator[Callable[[str], object]]:
    """A function that writes text to a file, which has its name only when it is complete."""
    with output(path, "choose another --output") as aside, aside.open("w", encoding="utf-8") as file:
        yield file.write


def _quoted(name: str) -> str:
    """A name as CSV has it: in quotation marks if it holds a comma, a quotation mark or a line break."""
    return f'"{name.replace(chr(34), chr(34) * 2)}"' if any(sign in name for sign in ',"\n\r') else name
