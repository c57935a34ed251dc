"""Simulated recordings: the format, the sum of responses and noise by numpy, and what averaging makes of them."""

import csv
import dataclasses
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.errors import assert_facts, fails_with, refused
from helpers.runs import leave_on_disk, run_command, run_with_full_disk

from demega_jax.data.recordings.runs import OFFICIAL, RunName, find_recordings
from demega_jax.data.recordings.statistics import statistics
from demega_jax.data.recordings.windows import find_windows
from demega_jax.data.simulate import recordings as module
from demega_jax.data.simulate.generative import MatchedFilter, autocovariance, generative_model
from demega_jax.data.simulate.recordings import draw_noise, draw_signal, noise_filter, plan_runs, sensor_scale
from demega_jax.data.simulate.recordings import simulate_recordings as simulate
from demega_jax.data.simulate.speech import draw_speech
from demega_jax.metrics import macro_f1

pytestmark = pytest.mark.usefixtures("own_cache")
SHAPE = {"sensors": 12, "time_points": 25}
SPLITS = {"validation": RunName("0", "11", "Sherlock1", "2"), "test": RunName("0", "12", "Sherlock1", "2")}


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """20 minutes, 7,700 train phonemes."""
    out = tmp_path_factory.mktemp("tree")
    simulate(out, minutes=20, seed=1, **SHAPE)
    return out


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_tree_has_the_published_names_and_minutes(tree):
    tail = "proc-bads+headpos+sss+notch+bp+ds_meg.h5"
    names = sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file())
    stems = [
        "1/sub-0_ses-11_task-Sherlock1_run-2",
        "1/sub-0_ses-12_task-Sherlock1_run-2",
        "1/sub-0_ses-1_task-Sherlock1_run-1",
        "2/sub-0_ses-1_task-Sherlock2_run-1",
    ]
    split = [(stem[0], stem[2:]) for stem in stems]
    wanted = [f"Sherlock{task}/derivatives/events/{stem}_events.tsv" for task, stem in split]
    wanted += [f"Sherlock{task}/derivatives/serialised/{stem}_{tail}" for task, stem in split]
    assert names == sorted(wanted)
    samples = {recording.name: recording.samples for recording in find_recordings(tree)}
    assert [samples[name] for name in SPLITS.values()] == [37_500, 37_500]  # an eighth of 20 minutes at 250 Hz
    assert sum(samples.values()) == 20 * 60 * 250


def test_recording_is_in_tesla_with_its_statistics(tree):
    (path,) = tree.glob("Sherlock2/*/serialised/*.h5")
    with h5py.File(path) as file:
        x, times, attributes = file["data"][:], file["times"][:], dict(file["data"].attrs)
        assert file["data"].dtype == np.float32 and file.attrs["sample_frequency"] == 250.0
    assert x.shape == (12, 112_500)
    np.testing.assert_allclose(times, np.arange(112_500) * 0.004, atol=1e-9)
    np.testing.assert_allclose(attributes["channel_stds"], x.std(axis=1, dtype=np.float64), rtol=1e-4)
    np.testing.assert_allclose(attributes["channel_means"] / x.std(axis=1), x.mean(axis=1) / x.std(axis=1), atol=1e-4)
    deviation = x.std(axis=1).reshape(4, 3)
    assert (deviation[:, 2] < deviation[:, :2].min(axis=1) / 3).all()  # a magnetometer is the third of each triplet
    assert 1e-12 < deviation[:, :2].min() and deviation[:, :2].max() < 1.5e-11


def test_events_describe_whole_words_in_order(tree):
    for path in tree.glob("*/*/events/*.tsv"):
        rows = rows_of(path)
        assert list(rows[0]) == ["idx", "kind", "segment", "timemeg", "duration"]
        assert {row["kind"] for row in rows} == {"phoneme", "word", "silence"}
        times = [float(row["timemeg"]) for row in rows]
        assert times == sorted(times)
        words = {row["timemeg"]: row["segment"] for row in rows if row["kind"] == "word"}
        spoken = [row for row in rows if row["kind"] == "phoneme" and row["segment"] != "sil"]
        positions = "".join(row["segment"][-1] for row in spoken)
        assert re.fullmatch(r"(S|BI*E)*", positions)
        starts = [row for row in spoken if row["segment"][-1] in "BS"]
        assert [row["timemeg"] for row in starts] == list(words)
        unknown = [row for row in spoken if row["segment"] == "oov_S"]
        assert all(words[row["timemeg"]] == "oov" for row in unknown)
        known = "".join(row["segment"][:-2] for row in spoken if row not in unknown)
        assert known == "".join(word for word in words.values() if word != "oov")


def test_reader_finds_every_phoneme_without_a_warning(tree, warnings):
    recordings = find_recordings(tree)
    for recording in recordings:
        windows = find_windows([recording], tmax=0.1)
        written = [row for row in rows_of(recording.events) if row["kind"] == "phoneme"]
        assert len(windows) == sum(row["segment"] not in ("sil", "oov_S") for row in written)
        assert windows.class_counts().min() >= 1
        seconds = recording.samples / 250
        assert len(windows) / seconds == pytest.approx(8.5, rel=0.1)
    assert warnings == []


def test_plan_by_hand_and_at_full_length():
    short = plan_runs(2)  # 30,000 samples: an eighth twice, the rest in two
    assert [run.samples for run in short] == [11_250, 11_250, 3_750, 3_750]
    assert [str(run.name) for run in short] == [
        "0/1/Sherlock1/1",
        "0/1/Sherlock2/1",
        "0/11/Sherlock1/2",
        "0/12/Sherlock1/2",
    ]
    assert [run.samples for run in plan_runs(0.5)] == [2500, 2500, 2500]
    whole = plan_runs(52 * 60)
    lengths = np.array([run.samples for run in whole])
    assert lengths.sum() == 52 * 3600 * 250 and lengths.max() <= 40 * 60 * 250 and len(whole) == 77 + 2
    assert len({run.name for run in whole}) == len(whole) and {run.name for run in whole[-2:]} == set(OFFICIAL)
    assert (lengths[-2:] == 22 * 60 * 250).all()
    assert len(plan_runs(20, 9)) == 9


def test_noise_is_white_noise_through_the_filter_whatever_the_block(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 300)
    response = noise_filter()
    got = np.concatenate(list(draw_noise(1, 1000, np.random.default_rng(4))), axis=1)[0]
    white = np.random.default_rng(4).standard_normal(1000 + len(response) - 1, dtype=np.float32)
    np.testing.assert_allclose(got, np.convolve(white, response, "valid"), atol=2e-5)


def test_filter_gives_the_spectrum_of_the_grouped_files_noise():
    response = noise_filter()
    lags = [response[: len(response) - lag] @ response[lag:] for lag in range(125)]
    np.testing.assert_allclose(lags, autocovariance(125), atol=1e-4)


def test_signal_is_the_sum_of_responses_and_spatial_noise(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 70)  # responses of 25 samples cross the edges
    model = generative_model(**SHAPE, seed=2)
    speech = draw_speech(3.0, 0.1, np.random.default_rng(0))
    got = np.concatenate(list(draw_signal(model, speech, 750, 3, np.random.default_rng(9))), axis=1)
    expected = model.spatial @ np.concatenate(list(draw_noise(12, 750, np.random.default_rng(9))), axis=1)
    for onset, label in zip(speech.onset, speech.label, strict=True):
        expected[:, int(onset * 250) : int(onset * 250) + 25] += model.templates[label]
    expected = model.session_gain[3] * expected + model.session_offset[3][:, None]
    assert len(speech.label) > 15
    np.testing.assert_allclose(got, expected, atol=2e-5)


@pytest.fixture(scope="module")
def averaged(tree, tmp_path_factory):
    """Standardised train windows, their labels, and the model of seed 1 in units of standardised data."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    train = [recording for recording in find_recordings(tree) if recording.name not in OFFICIAL]
    found = statistics(train)
    patch.undo()
    windows = find_windows(train, tmax=0.1)
    x = np.empty((len(windows), 12, 25), np.float32)
    for i, recording in enumerate(train):
        run = found.standardise(recording.read())
        for row in np.flatnonzero(windows.run == i):
            x[row] = run[:, windows.start[row] : windows.start[row] + 25]
    unit = sensor_scale(12, 1) / found.std
    model = generative_model(**SHAPE, seed=1)
    model = dataclasses.replace(
        model,
        templates=(model.templates * unit[:, None]).astype(np.float32),
        spatial=unit[:, None] * model.spatial,
        session_gain=np.ones(10),
        session_offset=np.zeros((10, 12)),
    )
    return x, windows.label, model


def test_average_of_a_phoneme_is_its_template_and_what_all_share(averaged):
    x, label, model = averaged
    counts = np.bincount(label, minlength=39)
    shared = x.mean(axis=0)
    centre = np.tensordot(counts / counts.sum(), model.templates, 1)
    gain = generative_model(**SHAPE, seed=1).session_gain[:2].mean()  # of the two train runs
    spread = (x - shared).var(axis=0).sum()  # of one window about its mean, over all entries
    correlation, expected = [], []
    for phoneme in np.argsort(counts)[-20:]:
        count, template = counts[phoneme], model.templates[phoneme] - centre
        average, energy = x[label == phoneme].mean(axis=0) - shared, (template**2).sum()
        # Along the template: the template, times the gain, and noise that the average of n has a root of n less of.
        noise = np.tensordot(x - shared, template, 2).std() / np.sqrt(count) / energy
        assert (average * template).sum() / energy == pytest.approx(gain, abs=4 * noise)
        correlation.append(np.corrcoef(average.ravel(), template.ravel())[0, 1])
        expected.append(1 / np.sqrt(1 + spread / count / energy))
    assert np.mean(correlation) == pytest.approx(np.mean(expected), abs=0.05) and np.mean(expected) > 0.6


def test_matched_filter_reads_averages_the_better_the_more_windows(averaged):
    x, label, model = averaged
    counts = np.bincount(label, minlength=39)
    base = x.mean(axis=0) - np.tensordot(counts / counts.sum(), model.templates, 1)  # of the neighbours
    best, rng, score = MatchedFilter(model), np.random.default_rng(0), {}
    for level in (1, 5, 25):
        rows = [rng.permutation(np.flatnonzero(label == v))[: counts[v] // level * level] for v in range(39)]
        groups = np.concatenate(rows).reshape(-1, level)
        averages = np.stack([x[group].mean(axis=0) for group in groups]) - base
        sessions = np.zeros((len(groups), 10), int)
        sessions[:, 0] = level
        score[level] = macro_f1(label[groups[:, 0]], best.predict(averages, sessions))
    assert score[1] > 2 / 39 and score[5] > 0.3 and score[25] > 0.8


def test_equal_seeds_give_equal_trees(tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        simulate(tmp_path / name, minutes=0.5, sensors=3, time_points=10, seed=seed)
    content = {}
    for name in "abc":
        for path in sorted((tmp_path / name).rglob("*.h5")):
            with h5py.File(path) as file:
                content[name, path.name] = file["data"][:].tobytes()
        for path in (tmp_path / name).rglob("*.tsv"):
            content[name, path.name] = path.read_bytes()
    names = {name for _, name in content}
    assert len(names) == 6 and all(content["a", n] == content["b", n] != content["c", n] for n in names)
    assert len({content["a", n] for n in names}) == 6


@pytest.mark.parametrize(
    "change, facts",
    [
        ({"minutes": 0.4}, ["--minutes", "0.4", "0.5"]),
        ({"minutes": float("nan")}, ["--minutes", "nan"]),
        ({"minutes": float("inf")}, ["--minutes", "inf"]),
        ({"runs": 2}, ["--runs", "2", "3 to 6"]),
        ({"minutes": 300, "runs": 4}, ["--runs", "4", "9"]),
        ({"sensors": 0}, ["--sensors", "0", "1"]),
        ({"time_points": 1}, ["--time-points", "1", "2"]),
        ({"time_points": 9999}, ["--time-points", "9999", "1250"]),
        ({"seed": -1}, ["--seed", "-1", "0"]),
    ],
)
def test_impossible_arguments_are_refused_before_anything_is_written(tmp_path, change, facts):
    with refused(*facts):
        simulate(tmp_path / "out", **({"minutes": 1, "sensors": 3} | change))
    assert not (tmp_path / "out").exists()


def test_existing_tree_is_refused(tree, tmp_path):
    before = sorted(tree.rglob("*"))
    with refused(tree, "recordings"):
        simulate(tree, minutes=1, sensors=3)
    assert sorted(tree.rglob("*")) == before


def test_too_little_space_is_found_before_anything_is_written(tmp_path, monkeypatch):
    leave_on_disk(monkeypatch, 299_999)
    with refused("293.0 KiB", "free"):
        simulate(tmp_path / "out", minutes=1, sensors=3)  # 15,000 samples of 20 bytes
    leave_on_disk(monkeypatch, 300_000)
    assert len(simulate(tmp_path / "out", minutes=1, sensors=3)) == 4


@pytest.mark.parametrize("room", [50, 20_000])  # in the events, in the data
def test_full_disk_leaves_no_half_file(tmp_path, room):
    words = ["--recordings", "--minutes", 0.5, "--sensors", 6]
    done = run_with_full_disk(room, "simulate", tmp_path, *words)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert_facts(line, "error", "cannot be written", "File too large")
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == ([".tsv"] if room > 50 else [])


@pytest.mark.parametrize(
    "options, facts",
    [
        ("", ["--level", "--groups", "--recordings"]),
        ("--level 5", ["--groups"]),
        ("--level 5 --groups 8 --minutes 3", ["--minutes", "3.0", "grouped files"]),
        ("--level 5 --groups 8 --runs 3", ["--runs", "3", "grouped files"]),
        ("--recordings", ["--minutes", "recordings"]),
        ("--recordings --minutes 1 --groups 3", ["--groups", "3", "recordings"]),
    ],
)
def test_command_line_refuses_options_that_do_not_match(tmp_path, capsys, options, facts):
    fails_with(capsys, ["simulate", tmp_path / "out", *options.split()], *facts)
    assert not (tmp_path / "out").exists()


def test_command_writes_a_tree_and_says_what(tmp_path, capsys):
    options = "--recordings --minutes 1 --runs 5 --sensors 3 --seed 2"
    assert run_command("simulate", tmp_path, *options.split()) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert_facts(first, "5 session runs", "1 minutes", "3 sensors", "293.0 KiB", tmp_path)
    assert len(lines) == 5
    assert_facts(lines[-1], "0/12/Sherlock1/2", "0.17 minutes")
    assert len(find_recordings(tmp_path)) == 5
