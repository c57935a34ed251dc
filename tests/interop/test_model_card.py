"""The model card: its metadata as the hub's own reader reads them, its numbers, and what it must not claim."""

import json

import numpy as np
import pytest
from helpers.errors import assert_facts, fails_with
from helpers.runs import evaluate, run_command
from huggingface_hub import ModelCard
from sklearn.metrics import accuracy_score, f1_score

from demega_jax.config import Config, DataConfig, ModelConfig
from demega_jax.interop.card import Card
from demega_jax.interop.card_scores import read_scores
from demega_jax.interop.model_card import card_text
from demega_jax.metrics import confusion_matrix, scores
from demega_jax.model.published import Member
from demega_jax.phonemes import PHONEMES
from demega_jax.training.run import RunFolder


def card(**more: object) -> Card:
    model = ModelConfig(sensors=306, time_points=125, classes=PHONEMES)
    facts = {
        "repo": "me/demega",
        "config": Config(model=model, data=DataConfig(level=100)),
        "scores": (),
        "members": (Member(file="model.safetensors", step=7, validation={"macro_f1": 0.5}),),
        "parameters": 1234,
    }
    return Card(**(facts | more))


def read(text: str) -> ModelCard:
    """The card as the hub's library reads it; it raises where the metadata are not YAML."""
    return ModelCard(text)


def test_what_a_card_says_of_its_data():
    """Nothing is said that the run does not know."""
    real, simulated, unknown = (card_text(card(simulated=value)) for value in (False, True, None))
    given = card_text(card(simulated=None, dataset="you/other"))
    other = card_text(
        card(simulated=False, config=Config(model=ModelConfig(sensors=9, time_points=9, classes=("a", "b"))))
    )
    assert read(real).data.datasets == ["pnpl/LibriBrain"] and read(real).data.license == "cc-by-nc-4.0"
    assert "suggest" in real and "CC BY-NC 4.0" in real
    assert read(simulated).data.datasets is None and read(simulated).data.license == "apache-2.0"
    assert_facts(simulated, "data are simulated", "decodes nothing real")
    assert read(unknown).data.datasets is None and "does not say which data" in unknown
    assert read(given).data.datasets == ["you/other"] and "suggest" not in given
    assert read(other).data.datasets is None and "2 classes" in other
    for text in (real, simulated, unknown, given, other):
        assert read(text).data.library_name == "demega-jax"
        assert_facts(text, "Apache-2.0", "## Limits", "## Intended use", "macro-F1 0.5000", "step 7", "1,234")
    assert read(card_text(card(licence="mit"))).data.license == "mit"
    assert "K = 100" in real


def test_members_have_a_mean_and_a_standard_deviation():
    members = tuple(
        Member(file=f"members/{n}/model.safetensors", step=n, validation={"macro_f1": f1})
        for n, f1 in enumerate((0.4, 0.5, 0.9))
    )
    text = card_text(card(members=members))
    assert_facts(text, f"{np.mean([0.4, 0.5, 0.9]):.4f} +- {np.std([0.4, 0.5, 0.9], ddof=1):.4f}", "3 models")


def test_scores_have_the_interval_of_resampled_rows(tmp_path):
    """Oracle: rows drawn with replacement, and scikit-learn's macro-F1."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    predicted = np.where(rng.random(200) < 0.6, labels, rng.integers(0, 3, 200))
    found = scores(confusion_matrix(labels, predicted, 3), ("a", "b", "c"))
    (tmp_path / "test.json").write_text(json.dumps(found.to_json() | {"split": "test", "level": 20, "steps": [7]}))
    (score,) = read_scores(RunFolder(tmp_path), [tmp_path / "test.json"], ("a", "b", "c"), [7])
    assert score.macro_f1 == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert score.accuracy == accuracy_score(labels, predicted)
    drawn = [f1_score(labels[r], predicted[r], average="macro") for r in rng.integers(0, 200, (600, 200))]
    np.testing.assert_allclose([score.interval.low, score.interval.high], np.quantile(drawn, [0.025, 0.975]), atol=0.02)
    text = card_text(card(scores=(score,)))
    assert f"| test | 20 | 200 | {score.macro_f1:.4f} ({score.interval}) |" in text
    results = read(text).data.eval_results
    assert {r.metric_name: r.metric_value for r in results}["macro-F1"] == round(score.macro_f1, 4)
    assert {(r.dataset_split, r.dataset_config) for r in results} == {("test", "K=20")}


@pytest.mark.slow
def test_scores_of_the_report_of_a_run(run, data, tmp_path, capsys, warnings):
    """`evaluate --json RUN/report/..` is found; what is of other checkpoints is left out, and refused if named."""
    report = run / "report"
    found = evaluate(run, report / "test.json", "--data", data, "--split", "test")
    assert found["level"] == 100 and len(found["steps"]) == 1
    stale = found | {"steps": [1], "split": "validation"}
    (report / "stale.json").write_text(json.dumps(stale))
    (report / "other.json").write_text('{"some": "thing"}')
    capsys.readouterr()
    assert run_command("push", run, "me/small", "--dry-run") == 0
    text = capsys.readouterr().out
    assert f"| test | 100 | {found['rows']} | {found['macro_f1']:.4f} (" in text and "| validation |" not in text
    assert "other.json" not in "".join(warnings)
    assert_facts(warnings[-1], "stale.json", "at 1", "evaluate")
    assert "data are simulated" in text and "K = 100" in text
    push = ["push", run, "me/small", "--dry-run", "--scores"]
    fails_with(capsys, [*push, report / "stale.json"], "stale.json", "at 1")
    fails_with(capsys, [*push, report / "other.json"], "other.json", "no scores")
    for change, fact in [
        ({"classes": ["a"]}, "other classes"),
        ({"confusion": [[1]]}, "confusion"),
        ({"confusion": [["x"]]}, "confusion"),
    ]:
        (tmp_path / "bad.json").write_text(json.dumps(found | change))
        fails_with(capsys, [*push, tmp_path / "bad.json"], "bad.json", fact)
    (tmp_path / "bad.json").write_text("{")
    fails_with(capsys, [*push, tmp_path / "bad.json"], "bad.json", "not JSON")
