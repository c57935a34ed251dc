"""`demega-jax inspect` against numpy on the same files, counts by hand, and what was broken on purpose."""

import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from demega_jax.cli import main
from demega_jax.data.inspect.amplitude import measure, sensor_order
from demega_jax.data.inspect.folder import compare_levels, inspect_data
from demega_jax.data.inspect.grouped import order_of
from demega_jax.data.inspect.levels import LevelWindows, compare
from demega_jax.data.inspect.recordings import missing_runs
from demega_jax.data.inspect.report import plain
from demega_jax.data.recordings.runs import OFFICIAL, RunName
from demega_jax.data.shards.writer import ShardSettings, write_shards
from demega_jax.data.simulate.grouped import simulate_grouped
from demega_jax.data.simulate.recordings import simulate_recordings
from demega_jax.phonemes import PHONEMES

MEG = "proc-bads+headpos+sss+notch+bp+ds_meg.h5"


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> Path:
    """Levels 2 and 4 of 120 train rows, 6 sensors, 8 time points."""
    out = tmp_path_factory.mktemp("grouped")
    simulate_grouped(out, levels=[2, 4], groups=120, sensors=6, time_points=8, seed=1)
    return out


@pytest.fixture(scope="module")
def whole_tree(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tree")
    simulate_recordings(out, minutes=1, sensors=6, seed=2)
    return out


@pytest.fixture
def tree(whole_tree, tmp_path) -> Path:
    """A copy to be broken."""
    return Path(shutil.copytree(whole_tree, tmp_path / "tree"))


def write_grouped(path: Path, x: np.ndarray, labels: np.ndarray, groups: list | None = None, **attributes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["data"], file["labels"] = x.astype(np.float32), labels
        file.attrs.update(attributes)
        if groups is not None:
            indices = file.create_dataset("group_indices", (len(labels),), h5py.vlen_dtype(np.int32))
            for i, group in enumerate(groups):
                indices[i] = group
    return path


def run(capsys, *arguments) -> tuple[int, str, str]:
    status = main(["inspect", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_facts_of_a_grouped_file_are_those_of_the_arrays(simulated):
    path = simulated / "grouped_2" / "train_grouped.h5"
    (report,) = inspect_data(path)
    with h5py.File(path) as file:
        x, labels, reference = file["data"][:], file["labels"][:], file.attrs["reference_macro_f1"]
    facts = report.facts
    assert (facts.rows, facts.sensors, facts.time_points, facts.level, facts.split) == (120, 6, 8, 2, "train")
    assert facts.counts == tuple(np.bincount(labels, minlength=39)) and facts.classes == PHONEMES
    assert facts.order == "sorted by label" and facts.reference_macro_f1 == reference and facts.simulated
    windows = facts.windows
    assert (windows.total, windows.distinct, windows.first, windows.last, windows.short) == (240, 240, 0, 239, 0)
    # 120 rows are four blocks of 32: all of the file is read.
    flat = x.swapaxes(0, 1).reshape(6, -1)
    deviation = flat.std(axis=1, dtype=np.float64)
    assert facts.amplitude.sampled == 120 * 8
    for of_type, places in zip(facts.amplitude.types, ([0, 1, 3, 4], [2, 5]), strict=True):
        expected = np.quantile(deviation[places], [0.5, 0.25, 0.75])
        got = (of_type.median, of_type.low_quartile, of_type.high_quartile)
        np.testing.assert_allclose(got, expected, rtol=1e-5)
        assert of_type.largest == pytest.approx(np.abs(flat[places]).max()) and of_type.near_constant == ()
    assert facts.amplitude.order == "cannot tell" and report.problems == [] and report.notes == []


def test_large_file_is_sampled_from_end_to_end(tmp_path):
    rows = 32 * 100
    x = np.zeros((rows, 3, 2)) + np.arange(rows)[:, None, None]  # a row holds its number
    (report,) = inspect_data(write_grouped(tmp_path / "train_grouped.h5", x, np.arange(rows) % 39))
    amplitude = report.facts.amplitude
    assert amplitude.sampled == 16 * 32 * 2
    assert amplitude.types[0].largest == rows - 1
    assert amplitude.types[0].median == pytest.approx(x.std(), rel=0.1)


def test_measure_stops_in_time_and_finds_what_is_still_or_not_finite():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 1000)) * np.array([3, 4, 1, 3, 0, 1])[:, None]
    x[3] *= 1e-6
    x[1, 7] = np.nan
    found = measure([x[:, :500], x[:, 500:]])
    assert found.sampled == 1000 and found.not_finite == (1,)
    assert {kind.name: kind.near_constant for kind in found.types} == {"gradiometers": (3, 4), "magnetometers": ()}
    assert found.types[1].median == pytest.approx(x[[2, 5]].std(axis=1).mean(), rel=1e-6)
    assert measure([x[:, :500], x[:, 500:]], seconds=0).sampled == 500


@pytest.mark.parametrize(
    "small, verdict, words",
    [
        (range(2, 30, 3), "holds", "the sensors at 2, 5, 8 .. are .. times smaller"),
        (range(0, 30, 3), "does not hold", "times smaller is at 0, 3, 6 .., not at 2, 5, 8 .."),
        (range(20, 30), "does not hold", "times smaller is at 20 to 29, not at 2, 5, 8 .."),
        ([i for i in range(30) if i % 3 != 2], "holds", "the sensors at 2, 5, 8 .. are .. times larger"),
        ([], "cannot tell", "all sensors are about as large, as in standardised data"),
        ([4, 5], "cannot tell", "no third of the sensors differs"),
    ],
)
def test_sensor_order_by_amplitude(small, verdict, words):
    deviation = np.exp(0.2 * np.random.default_rng(3).standard_normal(30))
    deviation[[i in small for i in range(30)]] /= 15
    got, reason = sensor_order(deviation)
    assert got == verdict and re.search(words, reason)


def test_factor_between_sensor_types_is_that_of_their_medians():
    deviation = np.where(np.arange(30) % 3 == 2, 0.25, 4.0)
    assert sensor_order(deviation) == ("holds", "the sensors at 2, 5, 8 .. are 16 times smaller")


def test_dead_sensors_do_not_decide_the_order_and_few_sensors_cannot():
    deviation = np.where(np.arange(30) % 3 == 2, 0.06, 1.0)
    deviation[[0, 3]] = 0
    assert sensor_order(deviation)[0] == "holds"
    assert sensor_order(np.ones(3))[0] == sensor_order(np.ones(8))[0] == "cannot tell"


@pytest.mark.parametrize(
    "labels, order",
    [
        (np.repeat(np.arange(5), 20), "sorted by label"),
        (np.repeat([2, 0, 4, 1], 20), "in blocks of a label"),
        (np.random.default_rng(0).permutation(np.repeat(np.arange(5), 20)), "shuffled"),
        (np.full(7, 3), "one class"),
    ],
)
def test_order_of_rows(labels, order):
    assert order_of(labels) == order


def level(number: int, groups: dict[str, list[list[int]]], *, indices: bool = True) -> LevelWindows:
    counts = {name: len(members) for name, members in groups.items()}
    if not indices:
        return LevelWindows(number, counts)
    pairs = sorted((window, name) for name, members in groups.items() for group in members for window in group)
    return LevelWindows(number, counts, np.array([w for w, _ in pairs]), np.array([name for _, name in pairs]))


def test_levels_are_compared_by_window_numbers():
    two = level(2, {"aa": [[0, 3], [5]], "b": [[1, 2], [4, 6]]})
    assert compare(two, level(4, {"aa": [[5, 0, 3]], "b": [[6, 4, 2, 1]]}))[0] == "same"
    verdict, reason = compare(two, level(4, {"b": [[6, 4, 2, 1]]}))
    assert verdict == "nearly the same" and reason == "4 windows in both, 3 only at level 2"
    verdict, reason = compare(two, level(4, {"aa": [[0, 1, 2]], "b": [[3, 4, 5, 6]]}))
    assert verdict == "different" and reason.startswith("4 of 7 shared window numbers")
    assert compare(two, level(2, {"aa": [[10, 11]]})) == ("different", "no window number is in both")


def test_levels_without_numbers_are_told_apart_only_where_counts_contradict():
    five = level(5, {"aa": [[0] * 5] * 21, "b": [[0]] * 2}, indices=False)  # 101 to 109 and 6 to 14 windows
    ten = level(10, {"aa": [[0] * 10] * 11, "b": [[0]] * 1}, indices=False)  # 101 to 119 and 1 to 19
    assert compare(five, ten)[0] == "cannot tell"
    verdict, reason = compare(five, level(10, {"aa": [[0]] * 12, "b": [[0]]}, indices=False))  # 111 to 129
    assert verdict == "different" and "aa: 101 to 109 at level 5 and 111 to 129 at level 10" in reason


def test_files_of_one_tree_are_the_same_phonemes_and_simulated_levels_are_not(simulated, tmp_path):
    rng = np.random.default_rng(0)
    label_of_window = rng.integers(0, 39, 200)
    for k in (2, 5):
        rows = [
            (label, block.tolist()) for label in range(39)
            for block in np.array_split(
                np.flatnonzero(label_of_window == label), range(k, (label_of_window == label).sum(), k)
            ) if len(block)
        ]  # fmt: skip
        labels = np.array([label for label, _ in rows])
        path = tmp_path / f"grouped_{k}" / "train_grouped.h5"
        write_grouped(path, rng.standard_normal((len(rows), 3, 4)), labels, [group for _, group in rows])
    (comparison,) = compare_levels(inspect_data(tmp_path))
    assert comparison.verdict == "same" and comparison.levels == (2, 5)
    assert comparison.reason == "the same 200 window numbers, of the same phonemes"
    assert {found.verdict for found in compare_levels(inspect_data(simulated))} == {"different"}


def test_recordings_are_counted_as_by_hand(whole_tree):
    (report,) = inspect_data(whole_tree)
    facts = report.facts
    assert report.problems == [] and report.notes == [] and facts.simulated
    assert (facts.rate, facts.sensors, facts.minutes) == (250.0, 6, pytest.approx(1))
    for split, pattern in (("validation", "*_ses-11_*"), ("test", "*_ses-12_*"), ("train", "*_ses-1_*")):
        rows = [
            line.split("\t") for path in whole_tree.glob(f"*/*/events/{pattern}")
            for line in path.read_text().splitlines()
        ]  # fmt: skip
        symbols = [row[2][:-2] for row in rows if row[1] == "phoneme" and row[2] not in ("sil", "oov_S")]
        of_split = facts.splits[split]
        assert of_split.phonemes == of_split.windows == len(symbols)
        assert of_split.counts == tuple(symbols.count(name) for name in PHONEMES)
    assert {split: found.runs for split, found in facts.splits.items()} == {"train": 2, "validation": 1, "test": 1}
    assert facts.amplitude.order == "holds"
    pooled = {kind.name: kind.median for kind in facts.amplitude.types}
    with h5py.File(next(whole_tree.glob("Sherlock2/*/serialised/*.h5"))) as file:
        deviation = file["data"][:].std(axis=1)
    assert pooled["gradiometers"] == pytest.approx(np.median(deviation[[0, 1, 3, 4]]), rel=0.3)
    assert pooled["magnetometers"] == pytest.approx(np.median(deviation[[2, 5]]), rel=0.3)


def test_missing_runs_are_those_that_can_be_known():
    names = [RunName("0", str(session), "Sherlock1", "1") for session in (1, 2, 5, 10)] + [*OFFICIAL]
    names += [RunName("0", str(session), "Sherlock4", "1") for session in (1, 2, 3, 4, 5, 6, 7, 9)]
    assert missing_runs(names) == ["Sherlock1 sessions 3-4, 6-9", "Sherlock4 session 8"]
    without = [name for name in names if name.session != "11"]
    assert missing_runs(without)[0] == "the validation run 0/11/Sherlock1/2"
    assert "11" not in missing_runs(without)[1]


def test_run_without_events_and_the_reverse_are_noted(tree, capsys):
    next(tree.glob("Sherlock2/*/events/*")).unlink()
    next(tree.glob("Sherlock1/*/serialised/*ses-12*")).unlink()
    status, out, err = run(capsys, tree)
    assert status == 0 and err == ""
    text = " ".join(out.split())
    assert "1 runs without events: 0/1/Sherlock2/1" in text
    assert "1 runs with events and no recording: 0/12/Sherlock1/2" in text


def test_each_broken_run_is_named_and_the_others_are_reported(tree, capsys, tmp_path):
    cut, rate, events, nan = (
        next(tree.glob(f"*/*/{pattern}"))
        for pattern in (
            "serialised/*ses-12*",
            "serialised/*Sherlock2*",
            "events/*ses-11*",
            "serialised/*ses-1_task-S*1_*",
        )
    )
    with cut.open("r+b") as file:
        file.truncate(5000)
    with h5py.File(rate, "r+") as file:
        file.attrs["sample_frequency"] = 500.0
    events.write_text("no\ttable\n")
    with h5py.File(nan, "r+") as file:
        file["data"][3, 10] = np.inf
    status, out, err = run(capsys, tree, "--json", tmp_path / "all.json")
    assert status == 2 and err.count("\n") == 1 and err.startswith("error: ") and "3 more problems" in err
    (report,) = json.loads((tmp_path / "all.json").read_text())["reports"]
    problems = "\n".join(report["problems"])
    assert not report["sound"] and len(report["problems"]) == 4
    assert f"{cut}: the file is truncated" in problems and f"{events}: no column kind" in problems
    assert f"{rate}: 6 sensors at 500 Hz; wanted 6 at 250 Hz, as 0/1/Sherlock1/1" in problems
    assert f"{nan}: values that are not finite in sensor 3" in problems
    assert report["facts"]["splits"]["train"]["runs"] == 2  # what can be read is there


def test_times_that_contradict_the_rate_are_noted(tree):
    with h5py.File(next(tree.glob("Sherlock2/*/serialised/*")), "r+") as file:
        file["times"][:] = file["times"][:] / 2
    (report,) = inspect_data(tree)
    assert report.notes == ["0/1/Sherlock2/1: 500 Hz by `times`, 250 Hz by its attribute"]


@pytest.mark.parametrize(
    "change, problem",
    [
        ("cut", "truncated"),
        ("nan", "values that are not finite in sensor 2"),
        ("label", "label 44 in row 5"),
        ("negative", "window number -7"),
    ],
)
def test_unsound_grouped_file_ends_with_2_and_the_others_are_reported(simulated, tmp_path, capsys, change, problem):
    good, bad = simulated / "grouped_2" / "test_grouped.h5", tmp_path / "train_grouped.h5"
    shutil.copy(simulated / "grouped_2" / "train_grouped.h5", bad)
    with h5py.File(bad, "r+") as file:
        if change == "nan":
            file["data"][7, 2, 3] = np.nan
        if change == "label":
            file["labels"][5] = 44
        if change == "negative":
            file["group_indices"][3] = [-7, 4]
    if change == "cut":
        with bad.open("r+b") as raw:
            raw.truncate(20_000)
    status, out, err = run(capsys, bad, good)
    assert status == 2 and err.startswith(f"error: {bad}: ") and problem in err and err.count("\n") == 1
    assert out.index("not sound") < out.index(str(good)) and "15 rows x 6 sensors" in out


def test_groups_that_contradict_the_level_are_noted(tmp_path):
    groups = [[0], [1], [2, 3, 4], [5, 6]]
    path = tmp_path / "grouped_2" / "train_grouped.h5"
    (report,) = inspect_data(write_grouped(path, np.ones((4, 3, 2)), np.zeros(4, int), groups, grouped_samples=2))
    assert any("2 groups of fewer and 1 of more windows than level 2 says" in note for note in report.notes)
    assert (report.facts.windows.short, report.facts.windows.long) == (2, 1)


def test_windows_that_run_off_are_counted(tree):
    path = next(tree.glob("*/*/events/*ses-11*"))
    with path.open("a") as file:
        file.write("900\tphoneme\taa_S\t9.7\t0.1\n900\tphoneme\tqq_S\t8.0\t0.1\n")  # of 10 s
    (report,) = inspect_data(tree)
    assert report.notes[0].endswith("1 events out of order of time")
    assert report.notes[1:] == [
        "1 windows of 0.5 s run off their recording and are left out", "1 events have symbols that are no phoneme"
    ]  # fmt: skip


def test_folders_by_any_name_and_empty_ones(simulated, tmp_path, capsys):
    shutil.copytree(simulated / "grouped_2", tmp_path / "mine")
    assert [report.path.name for report in inspect_data(tmp_path / "mine")][0] == "train_grouped.h5"
    (tmp_path / "grouped_9").mkdir()
    status, _, err = run(capsys, tmp_path / "grouped_9")
    assert status == 2 and "no .h5 file and no manifest.json" in err


def test_what_is_neither_data_nor_a_run(tmp_path, capsys):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").touch()
    status, out, err = run(capsys, tmp_path / "letters", tmp_path / "absent")
    assert status == 2 and "it holds a.txt" in out and "no such file or folder" in out
    assert err.startswith(f"error: {tmp_path / 'letters'}: it holds a.txt, and 1 more problem listed above")


def test_output_fits_80_columns_and_says_what_matters(simulated, whole_tree, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, err = run(capsys, simulated, whole_tree)
    assert status == 0 and err == ""
    lines = [line for line in out.splitlines() if not line.startswith("/")]  # headings are long paths
    assert max(map(len, lines)) <= 80 and "…" not in out
    assert out.count("█") > 39 and out.count("batches read in order hold few classes") == 6
    (most,) = [line for line in lines if " ah " in line and "█" in line][:1]
    assert "█" * 20 in most  # the most frequent phoneme has the longest bar


def test_json_is_strict_and_holds_all(simulated, tmp_path, capsys):
    target = tmp_path / "new" / "all.json"
    assert run(capsys, simulated, "--json", target)[0] == 0

    def refuse(name: str) -> None:
        raise AssertionError(name)

    content = json.loads(target.read_text(), parse_constant=refuse)
    assert content["sound"] and content["format"] == 1
    assert [Path(report["path"]).name for report in content["reports"]][:3] == [
        f"{split}_grouped.h5" for split in ("train", "validation", "test")
    ]
    assert sum(content["reports"][0]["facts"]["counts"]) == 120
    assert [found["levels"] for found in content["comparisons"]] == [[2, 4]] * 3
    assert [path.name for path in target.parent.iterdir()] == ["all.json"]
    assert plain({"a": np.float32("nan"), "b": (np.int64(3), float("inf")), 3: Path("x")}) == {
        "a": None, "b": [3, None], "3": "x"
    }  # fmt: skip


def test_json_that_cannot_be_written(simulated, tmp_path, capsys):
    (tmp_path / "file").touch()
    status, _, err = run(capsys, simulated / "grouped_2", "--json", tmp_path / "file" / "a.json")
    assert status == 2 and "cannot be written" in err


@pytest.fixture(scope="module")
def whole_shards(simulated, tmp_path_factory) -> Path:
    """Both levels in shards of 32 rows, not normalised."""
    out = tmp_path_factory.mktemp("shards")
    settings = ShardSettings(norm="none", dtype="float32", shard_bytes=32 * 6 * 8 * 4, seed=3)
    write_shards(simulated, out, levels=[2, 4], settings=settings)
    return out


def test_shards_are_verified_and_reported_as_their_source(simulated, whole_shards):
    reports = inspect_data(whole_shards)
    assert [str(report.path.relative_to(whole_shards)) for report in reports] == [
        f"grouped_{k}/{split}" for k in (2, 4) for split in ("train", "validation", "test")
    ]
    assert all(report.problems == [] for report in reports)
    facts = reports[0].facts
    (source,) = inspect_data(simulated / "grouped_2" / "train_grouped.h5")
    assert (facts.counts, facts.rows, facts.reference_macro_f1) == (
        source.facts.counts, 120, source.facts.reference_macro_f1
    )  # fmt: skip
    files = list((whole_shards / "grouped_2" / "train").glob("shard-*.h5"))
    assert facts.shards.files == len(files) and facts.nbytes == sum(file.stat().st_size for file in files)
    assert (facts.shards.checksums, facts.shards.normalization, facts.shards.seed) == ("verified", "none", 3)
    assert facts.order == "shuffled" and facts.shards.permuted and not reports[1].facts.shards.permuted
    # All rows of both are read: the same values in another order.
    for kind, of_source in zip(facts.amplitude.types, source.facts.amplitude.types, strict=True):
        assert kind.median == pytest.approx(of_source.median, rel=1e-6) and kind.largest == of_source.largest
    assert {found.verdict for found in compare_levels(reports)} <= {"different", "cannot tell"}


def test_altered_missing_and_unfinished_shards_are_found(whole_shards, tmp_path, capsys):
    folder = Path(shutil.copytree(whole_shards, tmp_path / "shards")) / "grouped_4"
    altered = folder / "train" / "shard-00001.h5"
    content = bytearray(altered.read_bytes())
    content[-20] ^= 1  # of the data, or of what HDF5 does not look at
    altered.write_bytes(content)
    status, out, err = run(capsys, folder)
    assert status == 2 and err.startswith(f"error: {altered}: altered") and err.count("\n") == 1
    assert "do not agree" in out and out.count("verified") == 2
    altered.unlink()
    status, out, err = run(capsys, folder)
    assert status == 2 and err.startswith(f"error: {altered}: missing") and out.count("verified") == 2
    (folder / "manifest.json").rename(folder / ".shards.partial.json")
    status, out, err = run(capsys, folder)
    assert status == 2 and "the work is unfinished" in err


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run of 4 steps on tiny data."""
    base = tmp_path_factory.mktemp("trained")
    simulate_grouped(base / "data", levels=[5], groups=48, sensors=3, time_points=12, seed=1)
    (base / "tiny.yaml").write_text(
        "model: {width: 8, layers: 1, heads: 2, embedding_width: 8, projection_width: 4, ipa_width: 4}\n"
        "train: {steps: 4, batch_size: 16, eval_every: 2, save_every: 2, log_every: 1}\n"
    )
    assert main(["train", str(base / "tiny.yaml"), "--data", str(base / "data"), "--run", str(base / "run")]) == 0
    return base / "run"


def test_run_is_reported_with_its_best_step_and_verified_checkpoints(trained, tmp_path, capsys):
    assert run(capsys, trained, "--json", tmp_path / "run.json")[0] == 0
    (report,) = json.loads((tmp_path / "run.json").read_text())["reports"]
    facts = report["facts"]
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    scored = [line for line in lines if line["split"] == "validation"]
    best = max(scored, key=lambda line: line["macro_f1"])
    assert (facts["step"], facts["planned"], facts["validations"]) == (4, 4, 2)
    assert (facts["best"], facts["best_step"]) == (best["macro_f1"], best["step"])
    states = [(found["kind"], found["step"], found["state"]) for found in facts["checkpoints"]]
    assert states == [("latest", 2, "whole"), ("latest", 4, "whole"), ("best", best["step"], "whole")]
    assert facts["parameters"] > 100 and facts["window"] == [3, 12] and report["sound"]


def test_damaged_checkpoint_of_a_run_is_found(trained, tmp_path, capsys):
    copy = Path(shutil.copytree(trained, tmp_path / "run"))
    files = sorted((copy / "checkpoints" / "latest" / "4" / "model").rglob("*"), key=lambda path: path.stat().st_size)
    data = bytearray(files[-1].read_bytes())
    data[len(data) // 2] ^= 255
    files[-1].write_bytes(data)
    status, out, err = run(capsys, copy)
    assert status == 2 and f"{copy / 'checkpoints' / 'latest' / '4'}: damaged" in err
    assert out.count("whole, checksums agree") == 2


def test_folder_of_a_run_without_a_config(tmp_path, capsys):
    (tmp_path / "checkpoints").mkdir()
    status, _, err = run(capsys, tmp_path)
    assert status == 2 and err.startswith(f"error: {tmp_path}: no config.yaml")
