"""What tests of several rooms share: where things are, and the smallest model."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
TINY_MODEL = [
    "model.width=8", "model.layers=1", "model.heads=2", "model.embedding_width=8", "model.projection_width=8",
    "model.ipa_width=8",
]  # fmt: skip
