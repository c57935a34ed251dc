"""Tables of scores on the terminal."""

from rich.box import SIMPLE_HEAD
from rich.columns import Columns
from rich.console import Console
from rich.table import Table
from rich.text import Text

from demega_jax.console import new_console
from demega_jax.metrics import Scores
from demega_jax.phonemes import PHONEMES

TWO_COLUMNS_FROM = 16  # classes; fewer stay in one column
SHORT_NAME = 4  # letters of a class, so that two stand beside each other in 80 columns


def print_scores(scores: Scores, *, title: str, console: Console | None = None) -> None:
    """Print a table of the classes and, last, a summary. 39 phonemes fit a terminal of 80 x 50."""
    console = console or new_console()
    if scores.ipa_feature_accuracy:
        console.print(Text("Accuracy of the IPA features", style="bold"))
        features = [f"{name} {value:.3f}" for name, value in scores.ipa_feature_accuracy.items()]
        console.print(Columns(features, padding=(0, 3)), highlight=False)
    console.print(_class_table(scores))
    console.print(Text("seen as: most frequent wrong prediction, and its share of the rows of the class", style="dim"))
    console.print(Text(title, style="bold"), soft_wrap=True)
    console.print(_summary_table(scores))


def _summary_table(scores: Scores) -> Table:
    """Names and values of the scores, two on a line."""
    reference = scores.reference_macro_f1
    pairs = [
        ("macro-F1", f"{scores.macro_f1:.4f}"),
        ("balanced accuracy", f"{scores.balanced_accuracy:.4f}"),
        ("accuracy", f"{scores.accuracy:.4f}"),
        *_at_10(scores),
        ("chance", f"{scores.chance:.4f}"),
        ("rows", f"{scores.rows:,}"),
    ]
    if scores.loss is not None:
        pairs.append(("loss", f"{scores.loss:.4f}"))
    if scores.ipa_accuracy is not None:
        pairs.append(("IPA accuracy", f"{scores.ipa_accuracy:.4f}"))
    if reference is not None:
        pairs.append(("reference macro-F1", f"{reference:.4f} ({scores.macro_f1 - reference:+.4f})"))
    table = Table(show_header=False, box=None, padding=(0, 1))
    for _ in range(2):
        table.add_column(style="cyan", no_wrap=True)
        table.add_column(style="bold", no_wrap=True, justify="right")
    for start in range(0, len(pairs), 2):
        table.add_row(*(cell for pair in pairs[start : start + 2] for cell in pair))
    return table


def _at_10(scores: Scores) -> list[tuple[str, str]]:
    """The balanced accuracy at 10, where there are more than 10 classes."""
    found = scores.balanced_accuracy_at_10
    return [] if found is None else [("balanced accuracy at 10", f"{found:.4f}")]


def _class_table(scores: Scores) -> Table:
    """A line for each class, or for two classes whose names are short. A class without rows has dashes."""
    rows = [class_cells(scores, index) for index in range(len(scores.classes))]
    short = max(len(name) for name in scores.classes) <= SHORT_NAME
    blocks = 2 if len(rows) >= TWO_COLUMNS_FROM and short else 1
    length = -(-len(rows) // blocks)
    noun = "phoneme" if set(scores.classes) <= set(PHONEMES) else "class"
    # In 80 columns two blocks leave no room for padding beside the dividers of the box, of one space.
    table = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    for block in range(blocks):
        if block:
            table.add_column("")
        table.add_column(noun, style="bold", overflow="fold")
        table.add_column("rows", justify="right", no_wrap=True)
        table.add_column("F1", justify="right", no_wrap=True, style="green")
        table.add_column("prec", justify="right", no_wrap=True)
        table.add_column("rec", justify="right", no_wrap=True)
        table.add_column("seen as", overflow="fold")
    for line in range(length):
        cells = rows[line]
        if blocks == 2:
            cells = [*cells, "", *(rows[line + length] if line + length < len(rows) else [])]
        table.add_row(*cells)
    return table


def class_cells(scores: Scores, index: int) -> list[str]:
    """Name, support, F1, precision, recall and most frequent wrong prediction of a class."""
    name, support = scores.classes[index], int(scores.support[index])
    if not support:
        return [name, "0", "-", "-", "-", ""]
    wrong = scores.confusion[index].copy()
    wrong[index] = 0
    most = int(wrong.argmax())
    seen_as = f"{scores.classes[most]} {wrong[most] / support:.0%}" if wrong[most] else ""
    shares = (scores.f1[index], scores.precision[index], scores.recall[index])
    return [name, str(support), *(f"{share:.2f}" for share in shares), seen_as]
