"""The sections of a model card as Markdown."""

import statistics

from demega_jax import __version__
from demega_jax.interop.card import LIBRIBRAIN, Card

CREDITS = """- DeMEGa: A. Smechov, I. Stepanov, A. Yavorskyi, S. Chaudhary. *DeMEGa: Disentangled MEG Attention for
  Phoneme Classification*, 2025.
- LibriBrain: M. Özdogan et al. *LibriBrain: Over 50 Hours of Within-Subject MEG to Improve Speech Decoding Methods at
  Scale*, 2025."""
USE = """Research on decoding speech from MEG: comparison with other methods, ensembles, further training on other
levels or sessions. It is not for medical use, nor for any decision about a person. It classifies averaged responses to
speech that was heard; it does not read thoughts."""
SIMULATED = """**The data are simulated.** They have the format of published data, but no brain was measured: this model
decodes nothing real."""


def title(card: Card) -> str:
    """The name of the model, and what it is."""
    model = card.config.model
    count = len(card.members)
    head = f"{count} models, whose probabilities are averaged. Each is" if count > 1 else "This is"
    what = f"{len(card.classes)} {'phonemes' if card.phonemes else 'classes'}"
    text = (
        f"# {card.name}\n\n{head} a DeMEGa classifier: from a window of magnetoencephalography (MEG) with "
        f"{model.sensors} sensors and {model.time_points} time points to the probabilities of {what}. It learned "
        f"from rows that are each the mean of K responses to one class, {card.level}, with demega-jax {__version__}."
    )
    if card.origin:
        text += f"\n\nThe training run was pulled from {card.origin[0]} at commit {card.origin[1]}."
    return text


def scores(card: Card) -> str:
    """A table of scores with their intervals, and what validation was when the checkpoints were chosen."""
    lines = []
    if card.scores:
        lines += [
            "| split | K | rows | macro-F1 (95 % interval) | balanced accuracy | accuracy | chance |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        lines += [
            f"| {s.split} | {s.level or '-'} | {s.rows:,} | {s.macro_f1:.4f} ({s.interval}) | "
            f"{s.balanced_accuracy:.4f} | {s.accuracy:.4f} | {s.chance:.4f} |"
            for s in card.scores
        ]
        lines += [
            "",
            "macro-F1 and balanced accuracy are means over the classes that occur in the split. Intervals are",
        ]
        lines += ["percentiles of a bootstrap over rows; they say nothing about other sessions or other people."]
        for s in card.scores:
            if s.reference is not None:
                lines += ["", f"The best macro-F1 possible on {s.split} is known: {s.reference:.4f}."]
    lines += ["", *_chosen(card)]
    if not card.scores:
        lines += ["", "No interval is known: the model was pushed without scores of `demega-jax evaluate --json`."]
    return "\n".join(lines)


def _chosen(card: Card) -> list[str]:
    """What validation was when it chose the checkpoints."""
    found = [member.validation["macro_f1"] for member in card.members if "macro_f1" in member.validation]
    steps = ", ".join(str(member.step) for member in card.members)
    if not found:
        return []
    if len(found) == 1:
        return [f"Validation chose the checkpoint at step {steps}, with macro-F1 {found[0]:.4f}."]
    spread = f"{statistics.mean(found):.4f} +- {statistics.stdev(found):.4f}"
    return [
        f"Validation chose the checkpoints at steps {steps}, with macro-F1 {spread} (mean and standard deviation"
        " over the models, each alone)."
    ]


def data(card: Card) -> str:
    """Which data the model was trained on."""
    if card.simulated:
        return SIMULATED
    known = card.likely_dataset
    if known is None:
        return "The training run does not say which data these were."
    page = f"[{known}](https://huggingface.co/datasets/{known})"
    more = ": over 50 hours of MEG of one person who listened to audiobooks" if known == LIBRIBRAIN else ""
    doubt = "" if card.dataset else " (as the sensors and phonemes suggest; the training run does not name its data)"
    return f"{page}{more}{doubt}."


def recipe(card: Card) -> str:
    """The model and its training in a table."""
    c = card.config
    losses = [c.loss.class_loss, f"class weights {c.loss.class_weights}"]
    losses += [f"contrastive x {c.loss.contrastive_weight:g}"] if c.loss.contrastive_weight else []
    losses += [f"IPA features x {c.loss.ipa_weight:g}"] if c.loss.ipa_weight else []
    length = f"{c.train.steps} steps" if c.train.steps else f"{c.train.epochs or 30} epochs"
    stop = "" if c.train.early_stopping is None else f" (patience {c.train.early_stopping})"
    seeds = f"{c.train.seed}" + (f" .. {c.train.seed + c.train.members - 1}" if c.train.members > 1 else "")
    rows = {
        "parameters": f"{card.parameters:,}" + (" in each model" if len(card.members) > 1 else ""),
        "encoder": f"{c.model.encoder}, layers {c.model.layers}, width {c.model.width}, pool {c.model.pool}",
        "input": f"each window is normalised in the model ({c.model.input_norm})",
        "losses": ", ".join(losses),
        "optimizer": f"AdamW, learning rate {c.optim.learning_rate:g}, weight decay {c.optim.weight_decay:g}, "
        f"clip {c.optim.clip:g}, warm-up and cosine {c.optim.schedule}",
        "training": f"{length}{stop}, batch {c.train.batch_size}, averaging {c.train.averaging}, seed {seeds}",
        "rows": f"feed {c.data.feed}, sampling {c.data.sampling}" + (", augmented" if c.data.augment.active else ""),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"| | |\n| --- | --- |\n{table}\n\n`config.json` has every key with its value."


def loading(card: Card) -> str:
    """How to use the model from Python and from the command line."""
    model, member = card.config.model, "/members/0" if len(card.members) > 1 else ""
    return f"""```python
import numpy as np
from demega_jax import DeMEGa, load

model = load("{card.repo}")  # revision="COMMIT" stays at one version
x = np.zeros((4, {model.sensors}, {model.time_points}), np.float32)  # standardised windows
probabilities = model.predict(x)  # [4, {len(card.classes)}]; columns are model.classes

module = DeMEGa.from_pretrained("{card.repo}")  # the Flax NNX module
```

```
demega-jax pull {card.repo} runs/pulled
demega-jax evaluate runs/pulled --data DATA --split test
demega-jax train CONFIG --data DATA --init runs/pulled{member}
```"""


def limits(card: Card) -> str:
    """What the model cannot do, and what its scores do not say."""
    model = card.config.model
    length = f" and {model.time_points} time points" if model.pool == "flatten" else ""
    points = [
        f"Windows must have {model.sensors} sensors{length}, in the order of training, and be standardised: in tesla "
        "they are too small.",
        "It was trained on means of responses. It scores lower on single responses, and at lower levels.",
    ]
    if not card.simulated:
        points += [
            "Nothing is known about other people, scanners or languages than those of the training data.",
            "Rows of one session resemble each other, so intervals over rows are narrower than those over sessions.",
        ]
    if card.phonemes:
        points.append("Rare phonemes are recognised worse than frequent ones.")
    return "\n".join(f"- {point}" for point in points)


def licences(card: Card) -> str:
    """The terms of the code, the data and the parameters."""
    terms = (
        "See the page of the dataset." if card.likely_dataset else "LibriBrain, if it was that, is under CC BY-NC 4.0."
    )
    if card.likely_dataset == LIBRIBRAIN:
        terms = "LibriBrain is under CC BY-NC 4.0, which allows no commercial use."
    if card.simulated:
        terms = "simulated, without terms of their own."
    return (
        f"- Code (demega-jax): Apache-2.0.\n- Data: {terms}\n- Parameters (the files here): {card.terms}, as chosen by "
        "whoever published them. The terms of the data apply beside it."
    )
