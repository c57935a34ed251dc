"""What tests of several rooms share. The modules beside this one are the seams by which tests reach the library.

data: grouped files, shards and their rows.  recordings: recordings whose means show their windows.
feeds: the three feeds.  training: a train step of a tiny model.  runs: commands, and what a run leaves behind.
errors: the facts of an error or a warning.  arrays: comparisons.  golden: the original system's model.
scores: made-up scores of 39 phonemes.
"""

from pathlib import Path

import pytest

# Their assertions say what they compared, as those of test files do.
pytest.register_assert_rewrite(*(f"helpers.{name}" for name in ("arrays", "errors", "feeds", "runs")))

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
TINY_MODEL = [
    "model.width=8",
    "model.layers=1",
    "model.heads=2",
    "model.embedding_width=8",
    "model.projection_width=8",
    "model.ipa_width=8",
]
# One schedule for runs of any length: it is a constant of the compiled step, which runs then share by the tests' cache.
ONE_SCHEDULE = "optim.schedule_length=20"
