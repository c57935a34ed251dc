"""The model card: README.md of a model on the hub, with the metadata that the hub reads in front."""

from demega_jax.interop import card_sections as sections
from demega_jax.interop.card import Card

TAGS = ["meg", "magnetoencephalography", "phoneme-classification", "brain-computer-interface", "jax"]


def card_text(card: Card) -> str:
    """The card as Markdown."""
    parts = {
        "Scores": sections.scores(card),
        "Data": sections.data(card),
        "Recipe": sections.recipe(card),
        "How to load": sections.loading(card),
        "Intended use": sections.USE,
        "Limits": sections.limits(card),
        "Licences": sections.licences(card),
        "Credits": sections.CREDITS,
    }
    body = [sections.title(card), *(f"## {name}\n\n{part.strip()}" for name, part in parts.items())]
    return f"---\n{_metadata(card)}\n---\n\n" + "\n\n".join(body) + "\n"


def _metadata(card: Card) -> str:
    """YAML: licence, dataset, tags, and the scores as the hub's model index."""
    from huggingface_hub import EvalResult, ModelCardData

    dataset = None if card.simulated else card.likely_dataset
    results = [
        EvalResult(
            task_type="other",
            task_name="classification of MEG",
            dataset_type=dataset or "other",
            dataset_name=dataset or ("simulated windows" if card.simulated else "windows of MEG"),
            dataset_split=score.split,
            dataset_config=None if score.level is None else f"K={score.level}",
            metric_type=kind,
            metric_name=name,
            metric_value=round(value, 4),
        )
        for score in card.scores
        for kind, name, value in (
            ("f1", "macro-F1", score.macro_f1),
            ("balanced_accuracy", "balanced accuracy", score.balanced_accuracy),
            ("accuracy", "accuracy", score.accuracy),
        )
    ]
    return ModelCardData(
        license=card.terms,
        library_name="demega-jax",
        datasets=[dataset] if dataset else None,
        tags=TAGS,
        base_model=card.origin[0] if card.origin else None,
        model_name=card.name if results else None,
        eval_results=results or None,
    ).to_yaml()
