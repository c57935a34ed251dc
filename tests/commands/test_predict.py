"""`predict`, `submit` and several runs in `evaluate`: against the model itself, and what they refuse."""

import csv
import dataclasses
import json

import h5py
import numpy as np
import pytest
from command_line import SMALL, fails
from helpers.errors import assert_facts
from helpers.words import write_subject
from sklearn.metrics import f1_score

import demega_jax
from demega_jax.cli import main
from demega_jax.config import WindowsConfig
from demega_jax.data.simulate.grouped import simulate_grouped
from demega_jax.evaluation import runs
from demega_jax.phonemes import PHONEMES

# The phonemes as words: in another order, in capitals, and one with an apostrophe.
WORDS = ["A\u2019H", *(name.upper() for name in reversed(PHONEMES) if name != "ah")]


def of(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


@pytest.fixture(scope="module")
def second(data, tmp_path_factory):
    """A run of two members."""
    folder = tmp_path_factory.mktemp("runs") / "second"
    of(
        "train",
        "configs/tiny.yaml",
        "--data",
        data,
        "--run",
        folder,
        "--devices",
        1,
        *SMALL,
        "train.seed=5",
        "train.members=2",
        "data.feed=resident",
    )
    return folder


@pytest.fixture(scope="module")
def grouped_test(data):
    with h5py.File(data / "grouped_100" / "test_grouped.h5") as file:
        return file["data"][:], file["labels"][:]


def softmax(x):
    odds = np.exp(x - x.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


@pytest.mark.slow
def test_csv_of_a_data_folder(run, data, grouped_test, tmp_path, capsys):
    of("predict", run, "--input", data, "--split", "test", "--output", tmp_path / "p.csv")
    x, labels = grouped_test
    model = demega_jax.load(run)
    rows = list(csv.DictReader((tmp_path / "p.csv").open()))
    p = np.array([[float(row[f"p_{name}"]) for name in model.classes] for row in rows])
    np.testing.assert_allclose(p, model.predict(x), rtol=1e-4, atol=1e-6)
    assert [row["row"] for row in rows] == list(map(str, range(len(x))))
    assert [row["label"] for row in rows] == [model.classes[label] for label in labels]
    assert [row["predicted"] for row in rows] == [model.classes[i] for i in p.argmax(1)]
    wanted = f1_score(labels, p.argmax(1), labels=np.unique(labels), average="macro")
    assert f"macro-F1 {wanted:.4f}" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["npy", "npz", "file"])
@pytest.mark.slow
def test_every_kind_of_input_gives_the_same(run, data, grouped_test, tmp_path, kind):
    x, labels = grouped_test
    source = {"npy": tmp_path / "x.npy", "npz": tmp_path / "x.npz"}.get(kind, data / "grouped_100/test_grouped.h5")
    if kind == "npy":
        np.save(source, x)
    elif kind == "npz":
        np.savez(source, x=x, labels=labels)
    of("predict", run, "--input", source, "--output", tmp_path / "p.npz", "--embeddings")
    found, model = dict(np.load(tmp_path / "p.npz")), demega_jax.load(run)
    np.testing.assert_allclose(found["probabilities"], model.predict(x), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["logits"][0], model.predict_logits(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["embedding"][0], model.embed(x), rtol=1e-4, atol=1e-5)
    assert ("labels" in found) == (kind != "npy")
    assert tuple(found["classes"]) == model.classes


@pytest.mark.slow
def test_several_runs_and_members(run, second, data, grouped_test, tmp_path):
    x, labels = grouped_test
    for method in ("mean", "logits", "vote", "weighted"):
        of(
            "predict",
            run,
            second,
            "--input",
            data,
            "--split",
            "test",
            "--output",
            tmp_path / f"{method}.npz",
            "--ensemble",
            method,
        )
    found = {name: dict(np.load(tmp_path / f"{name}.npz")) for name in ("mean", "logits", "vote", "weighted")}
    one, two = demega_jax.load(run), demega_jax.load(second)
    logits = found["mean"]["logits"]
    assert logits.shape == (3, len(x), 39)
    assert list(found["mean"]["models"]) == [str(run), f"{second}/members/0", f"{second}/members/1"]
    np.testing.assert_allclose(found["mean"]["probabilities"], (one.predict(x) + 2 * two.predict(x)) / 3, rtol=1e-4)
    np.testing.assert_allclose(logits[0], one.predict_logits(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits[1:].mean(0), two.predict_logits(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["logits"]["probabilities"], softmax(logits.mean(0)), rtol=1e-4)
    alone = demega_jax.load(second / "members" / "1")
    np.testing.assert_allclose(logits[2], alone.predict_logits(x), rtol=1e-4, atol=1e-5)
    weights = np.linalg.lstsq(softmax(logits).reshape(3, -1).T, found["weighted"]["probabilities"].ravel(), rcond=None)[
        0
    ]
    assert weights.sum() == pytest.approx(1, abs=1e-4) and weights.min() > -1e-4


@pytest.mark.slow
def test_evaluate_shows_models_and_methods(run, second, data, grouped_test, tmp_path, capsys):
    out = tmp_path / "scores.json"
    of("evaluate", run, second, "--split", "test", "--json", out, "--ensemble", "logits")
    shown = capsys.readouterr().out
    scores = json.loads(out.read_text())
    x, labels = grouped_test
    found = scores["ensemble"]
    one = demega_jax.load(run).predict(x).argmax(1)
    wanted = f1_score(labels, one, labels=np.unique(labels), average="macro")
    assert found["models"][str(run)]["macro_f1"] == pytest.approx(wanted)
    assert f"{wanted:.4f}" in shown and "ensemble: vote" in shown
    assert scores["macro_f1"] == found["ensembles"]["logits"]["macro_f1"]
    assert set(found["ensembles"]) == {"mean", "logits", "vote"}
    assert scores["rows"] == len(x) and scores["run"] == [str(run), str(second)]
    each = [score["macro_f1"] for score in found["models"].values()]
    assert found["mean"] == pytest.approx(np.mean(each))
    assert found["standard_deviation"] == pytest.approx(np.std(each, ddof=1))


@pytest.mark.slow
def test_tta_is_reported_with_and_without(run, data, tmp_path, capsys):
    for name, words in (("plain", ()), ("tta", ("--tta",))):
        of("evaluate", run, "--split", "test", "--json", tmp_path / f"{name}.json", *words)
    assert "without --tta" in capsys.readouterr().out
    found = {path.stem: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    assert found["tta"]["ensemble"]["without_tta"]["macro_f1"] == pytest.approx(found["plain"]["macro_f1"])
    for name in ("p", "q"):
        of("predict", run, "--input", data, "--output", tmp_path / f"{name}.npz", "--tta", "--seed", 3)
    p, q = (np.load(tmp_path / f"{name}.npz") for name in ("p", "q"))
    np.testing.assert_array_equal(p["tta"], q["tta"])
    assert (p["tta"] != softmax(p["logits"])).all()
    np.testing.assert_allclose(p["probabilities"], p["tta"][0])


def test_denoised_windows(run, data, grouped_test, tmp_path):
    from demega_jax.signal.denoise import denoise

    of("predict", run, "--input", data, "--split", "test", "--output", tmp_path / "p.npz", "--denoise")
    model = demega_jax.load(run)
    clean = model.predict(denoise(grouped_test[0]))
    np.testing.assert_allclose(np.load(tmp_path / "p.npz")["probabilities"], clean, rtol=1e-4, atol=1e-6)


def test_submission_of_the_holdout(run, grouped_test, tmp_path, capsys):
    holdout, out = tmp_path / "holdout.npy", tmp_path / "submission.csv"
    np.save(holdout, grouped_test[0])
    of("submit", run, "--holdout", holdout, "--output", out)
    values = np.loadtxt(out, delimiter=",", skiprows=1)
    np.testing.assert_allclose(values[:, 1:], demega_jax.load(run).predict(grouped_test[0]), rtol=1e-4, atol=1e-7)
    assert "2,382" in capsys.readouterr().err  # the published holdout has another number of segments
    of("submit", "--check", out, "--rows", len(values))
    assert "2,382" in fails(capsys, "submit", "--check", out)


def test_what_is_refused(run, data, tmp_path, capsys):
    out, here = tmp_path / "p.csv", ("--input", data)
    for arguments, fact in [
        (("predict", run, *here, "--output", tmp_path / "p.txt"), ".csv or .npz"),
        (("predict", run, *here, "--output", out, "--embeddings"), "--embeddings"),
        (("predict", run, "--input", tmp_path / "no.npy", "--output", out), "no.npy"),
        (("predict", run, run, *here, "--output", out), "twice"),
        (("predict", run, *here, "--output", out, "--ensemble", "weighted"), "one model"),
        (("predict", run, *here, "--output", out, "--ensemble", "vot"), "vote"),
        (("predict", run, *here, "--output", out, "--level", "5"), "no level 5"),
        (("predict", tmp_path, *here, "--output", out), "no config.yaml"),
        (("submit", run, "--output", out), "--holdout"),
        (("submit", "--check", out), "no such file"),
        (("submit", run, "--check", out), "--check"),
        (("submit", "--rows", 3), "--check"),
    ]:
        assert fact in fails(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("command", "name"), [("predict", "x.csv"), ("predict", "x.npz"), ("submit", "x.csv")])
def test_another_file_is_replaced_with_force_alone(run, tmp_path, capsys, command, name):
    """The file of windows is the one that a wrong --output would cost."""
    windows, out = tmp_path / "windows.npy", tmp_path / name
    np.save(windows, np.zeros((1, 5, 9), np.float32))
    np.savez(tmp_path / "x.npz", x=np.zeros((1, 5, 9), np.float32))
    (tmp_path / "x.csv").write_text("label,class\n")
    before = out.read_bytes()
    words = [command, run, "--holdout" if command == "submit" else "--input", windows, "--output", out]
    assert_facts(fails(capsys, *words), out, "--force")
    assert out.read_bytes() == before
    of(*words, "--force")
    of(*words)  # what it wrote itself is replaced
    assert out.read_bytes() != before


def test_windows_that_do_not_fit_are_refused_before_anything_is_written(run, tmp_path, capsys):
    for x, fact in [
        (np.zeros((2, 4, 9), np.float32), "4 sensors"),
        (np.zeros((5, 9), np.float32), "x[None]"),
        (np.full((2, 5, 9), np.nan, np.float32), "nan"),
    ]:
        np.save(tmp_path / "x.npy", x)
        assert fact in fails(capsys, "predict", run, "--input", tmp_path / "x.npy", "--output", tmp_path / "p.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["evaluate", pytest.param("predict", marks=pytest.mark.long)])
def test_weights_are_fitted_at_the_level_that_is_scored(asked, tmp_path, monkeypatch):
    """The runs were trained at level 100; the rows are of level 5. The spy sees which validation rows are used."""
    data = tmp_path / "data"
    simulate_grouped(data, levels=[5, 100], groups=125, sensors=5, time_points=9, seed=1)
    with h5py.File(data / "grouped_5" / "validation_grouped.h5", "a") as file:
        five = file["labels"][...] = file["labels"][:][::-1]  # the levels have the same labels otherwise
        del file["row_crc32"]  # the change is on purpose
    for seed in (1, 2):
        of(
            "train",
            "configs/tiny.yaml",
            "--data",
            data,
            "--level",
            100,
            "--run",
            tmp_path / str(seed),
            "--devices",
            1,
            *SMALL,
            "train.steps=2",
            "train.eval_every=2",
            f"train.seed={seed}",
        )
    seen, fit = [], runs.fit_weights

    def spy(p, labels):
        seen.append(labels.tolist())
        return fit(p, labels)

    monkeypatch.setattr(runs, "fit_weights", spy)
    words = [asked, tmp_path / "1", tmp_path / "2", "--level", 5, "--split", "test", "--ensemble", "weighted"]
    of(*words, *(() if asked == "evaluate" else ("--input", data, "--output", tmp_path / "p.csv")))
    assert seen == [five.tolist()]
    assert five.tolist() != five[::-1].tolist()


def test_no_windows_give_a_file_without_rows(run, tmp_path, capsys):
    classes = demega_jax.load(run).classes
    np.save(tmp_path / "none.npy", np.empty((0, 5, 9), np.float32))
    for name in ("p.csv", "p.npz"):
        assert main(["predict", str(run), "--input", str(tmp_path / "none.npy"), "--output", str(tmp_path / name)]) == 0
    assert capsys.readouterr().out.count("0 rows") == 2
    (header,) = (tmp_path / "p.csv").read_text().splitlines()
    assert header.split(",") == ["row", "predicted", *(f"p_{name}" for name in classes)]
    with np.load(tmp_path / "p.npz") as file:
        assert file["probabilities"].shape == (0, len(classes)) and file["logits"].shape == (1, 0, len(classes))


@pytest.fixture
def given(run, tmp_path):
    """The words that write a submission, its file, and the windows of its rows."""
    windows = write_subject(tmp_path / "holdout", 0)
    (tmp_path / "vocabulary.csv").write_text(",".join(WORDS) + "\n")
    more = ["--competition", 2026, "--track", "deep", "--holdout", tmp_path / "holdout"]
    more += ["--vocabulary", tmp_path / "vocabulary.csv"]
    return more, tmp_path / "s.csv", windows


def test_words_from_a_holdout_to_a_score(run, given, tmp_path, capsys):
    more, out, windows = given
    of("submit", run, *more, "--output", out)
    shown = capsys.readouterr()
    assert_facts(shown.out, "6 rows", "--index-column id", "A\u2019H", "--apostrophe")
    assert_facts(shown.err, "39 words", "50")
    header, *lines = csv.reader(out.open())
    assert header == ["index", *WORDS]
    of("submit", run, *more, "--output", out)  # what it wrote itself is replaced; another form of it is not
    assert_facts(fails(capsys, "submit", run, *more, "--index-column", "id", "--output", out), out, "--force")
    model = demega_jax.load(run)
    wanted = model.predict(windows)[:, [model.classes.index(word.lower().replace("\u2019", "")) for word in WORDS]]
    np.testing.assert_allclose(np.array(lines, float)[:, 1:], wanted, rtol=1e-4, atol=1e-7)

    best = [WORDS[number] for number in wanted.argmax(1)]
    rows = [f"{row},{word}" for row, word in enumerate(best[:4])] + ["4,cat"]
    (tmp_path / "answers.csv").write_text("\n".join(["id,label", *rows]))
    of("submit", "--check", out, *more, "--answers", tmp_path / "answers.csv")
    shown = capsys.readouterr()
    assert_facts(
        shown.out, "6 rows", "1.0000", "4 rows", "cat", "1 row without an answer", "1 row with a label outside"
    )
    of("submit", "--check", out, *more, "--ranks", "lowest", "--answers", tmp_path / "answers.csv")
    assert_facts(capsys.readouterr().err, "1.0000", "--ranks")


def test_words_are_refused_for_a_model_of_windows_that_begin_elsewhere(run, given, monkeypatch, capsys):
    more, out, _ = given
    model = demega_jax.load(run)
    data = model.config.data.model_copy(update={"windows": WindowsConfig(tmin=-0.2)})
    earlier = dataclasses.replace(model, config=model.config.model_copy(update={"data": data}))
    monkeypatch.setattr(runs, "load", lambda path: earlier)
    assert_facts(fails(capsys, "submit", run, *more, "--output", out), "begin at 0 s", "-0.2 s after the event")
    assert not out.exists()


def test_the_other_forms_of_words(run, given, tmp_path, capsys):
    more, out, windows = given
    (tmp_path / "moses.csv").write_text(",".join(PHONEMES))
    words = [*more, "--index-column", "id", "--apostrophe", "none", "--secondary-vocabulary", tmp_path / "moses.csv"]
    of("submit", run, *words, "--secondary", run, "--ranks", "lowest", "--output", out)
    header, *lines = csv.reader(out.open())
    assert header[:2] == ["id", "AH"] and header[40:42] == ["moses_aa", "moses_ae"] and len(header) == 79
    values, p = np.array(lines, float), demega_jax.load(run).predict(windows)
    np.testing.assert_allclose(values[:, 40:], p, rtol=1e-4, atol=1e-7)
    order = [list(PHONEMES).index(word.lower()) for word in header[1:40]]
    np.testing.assert_array_equal(values[:, 1:40].argmin(1), p[:, order].argmax(1))
    of("submit", "--check", out, *words)
    assert "index" in fails(capsys, "submit", "--check", out, *more)


@pytest.mark.parametrize(
    ("changed", "facts"),
    [
        (["--track"], ["--holdout", "--track"]),
        (["--vocabulary"], ["--vocabulary"]),
        (["--secondary", "runs"], ["--secondary-vocabulary"]),
        (["--answers", "a.csv"], ["--answers", "--check"]),
        (["--competition"], ["--track", "2026"]),
        (["--seed", "1"], ["--seed", "--tta"]),
    ],
)
def test_options_of_words_that_do_not_fit(run, given, tmp_path, capsys, changed, facts):
    """One word: that option is left out. Two: it is added."""
    more, out, _ = given
    if len(changed) == 1:
        at = more.index(changed[0])
        more = more[:at] + more[at + 2 :]
        changed = []
    assert_facts(fails(capsys, "submit", run, *more, *changed, "--output", out), *facts)
    assert not out.exists()


def test_classes_that_are_not_the_vocabulary(run, given, tmp_path, capsys):
    more, out, _ = given
    (tmp_path / "vocabulary.csv").write_text(",".join([*WORDS[:-1], "cat"]))
    assert_facts(fails(capsys, "submit", run, *more, "--output", out), run, WORDS[-1].lower())
    write_subject(tmp_path / "holdout", 0, rate=8)
    (tmp_path / "vocabulary.csv").write_text(",".join(WORDS))
    assert_facts(fails(capsys, "submit", run, *more, "--output", out), "8 time points", "5 x 9")
