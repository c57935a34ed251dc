"""Many steps a dispatch, and many models in one program: the numbers of one step, and one model, at a time."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import TINY_MODEL
from helpers.arrays import assert_same_arrays
from helpers.data import open_split, simulate_grouped
from helpers.errors import assert_facts, fails_with, has_fact, refused
from helpers.feeds import regroup_feed, resident_feed
from helpers.recordings import write_marked
from helpers.runs import evaluate, newest_arrays, run_command, split_lines, train_arguments
from helpers.runs import train as train_run
from helpers.training import experiment_of

from demega_jax.config.load import load_config
from demega_jax.evaluation.model import load
from demega_jax.training.checkpoint import flatten

SMALL = [
    *TINY_MODEL,
    "model.dropout=0.5",
    "train.batch_size=16",
    "train.epochs=null",
    "train.eval_every=8",
    "train.log_every=4",
    "data.feed=resident",
    "optim.learning_rate=3e-3",
    "train.averaging=ema",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    simulate_grouped(folder, levels=[10], groups=93, sensors=5, time_points=9, seed=1)
    return folder


def feed(kind: str, data: Path, recordings: Path, **options):
    if kind == "resident":
        return resident_feed(open_split(data, 10), **options)
    return regroup_feed(recordings, recordings=kind, **options)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    return write_marked(tmp_path_factory.mktemp("marked"))


@pytest.mark.parametrize("kind", ["resident", "replicated", "dealt"])
@pytest.mark.slow
def test_a_dispatch_draws_the_batches_of_its_steps(kind, data, recordings):
    """Also where it reaches over several epochs, and begins in the midst of one."""
    one, many = feed(kind, data, recordings), feed(kind, data, recordings, steps_per_dispatch=17)
    assert one.steps_per_epoch < 17
    for _ in range(3):
        *tables, place = many.take(17)
        for step in range(17):
            got, wanted = many.draw(*tables, place + step), next(one)
            for name in wanted:
                np.testing.assert_array_equal(got[name], wanted[name])
    assert many.state() == one.state() == {"next_step": 51}


@pytest.mark.parametrize("kind", ["resident", "replicated", "dealt"])
@pytest.mark.slow
def test_each_member_has_the_batches_of_its_seed_alone(kind, data, recordings):
    seeds = (3, 4, 9)
    alone = [feed(kind, data, recordings, seeds=s) for s in seeds]
    together = feed(kind, data, recordings, devices=2, seeds=seeds)
    seen = []
    for _ in range(alone[0].steps_per_epoch + 1):
        batch, wanted = next(together), [next(one) for one in alone]
        for number, one in enumerate(wanted):
            assert set(one) == set(batch)
            for name in one:
                np.testing.assert_array_equal(batch[name][number], one[name])
        seen.append(np.asarray(batch["label"]))
    assert any((labels[0] != labels[1]).any() for labels in seen)


def train(data: Path, run: Path, *more: str, devices: int = 1) -> int:
    return train_run(data, run, "--level", 10, *SMALL, *more, devices=devices)


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory) -> Path:
    """Two runs of 16 steps, of seeds 777 and 778."""
    folder = tmp_path_factory.mktemp("alone")
    for seed in (777, 778):
        assert train(data, folder / str(seed), f"train.seed={seed}", "train.steps=16") == 0
    return folder


def assert_close(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert set(ours) == set(theirs)
    for name in theirs:
        # A bias of keys moves all scores of a query alike, which softmax does not see: its gradient is rounding alone,
        # and Adam makes steps of it.
        if not name.endswith((".key.bias", ".position_key.bias")):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, atol=2e-5, err_msg=name)


def assert_alike(run: Path, wanted: Path, every: int = 4) -> None:
    assert_close(newest_arrays(run), newest_arrays(wanted))
    for split in ("train", "validation"):
        ours, theirs = split_lines(run, split), split_lines(wanted, split)
        assert set(ours) == {step for step in theirs if step % every == 0}
        for step, line in ours.items():
            since = [step] if split == "validation" else [s for s in theirs if step - every < s <= step]
            assert line["loss"] == pytest.approx(np.mean([theirs[s]["loss"] for s in since]), rel=1e-3)


@pytest.mark.long
def test_many_steps_a_dispatch_train_alike_and_resume(data, alone, tmp_path, capsys):
    run, options = tmp_path / "run", ("train.steps_per_dispatch=8", "optim.schedule_length=16")
    assert train(data, run, *options, "train.steps=8", devices=2) == 0
    assert_facts(capsys.readouterr().out, "compiled")
    assert train(data, run, *options, "train.steps=16", "--resume", devices=2) == 0
    assert_alike(run, alone / "777", every=8)


@pytest.mark.parametrize("members", [pytest.param(1, marks=pytest.mark.long), 2])
@pytest.mark.slow
@pytest.mark.long
def test_one_program_of_many_steps_is_those_steps(data, members):
    """What accelerators run; a CPU starts the steps of a dispatch one by one."""
    config = load_config(Path("configs/tiny.yaml"), [*SMALL, "train.steps=4", f"train.members={members}"])
    experiment = experiment_of(config, open_split(data, 10), devices=2)
    placement, feed, states = experiment.placement, experiment.feed(), []
    inputs = feed.take(4)
    for steps in (1, 4):
        run = placement.compile_dispatch(experiment.train_step, feed.draw, steps=steps, members=members > 1)
        state, *tables = placement.replicate(experiment.fresh_state()), *inputs[:-1]
        found = []
        for step in range(0, 4, steps):
            state, metrics = run(state, *tables, inputs[-1] + step)
            found.append(metrics)
        states.append((state, found[0] if steps > 1 else jax.tree.map(lambda *each: np.stack(each), *found)))
    assert states[0][0].step.tolist() == ([4, 4] if members > 1 else 4)
    assert_close(*map(flatten, states))


MEMBERS = ("train.members=2", "train.steps_per_dispatch=2", "optim.schedule_length=16", "train.save_every=4")


@pytest.fixture(scope="module")
def members(data, tmp_path_factory) -> Path:
    """A run of two members that ended after 8 steps, and was continued to 16."""
    run = tmp_path_factory.mktemp("members") / "run"
    assert train(data, run, *MEMBERS, "train.steps=8", devices=2) == 0
    assert train(data, run, *MEMBERS, "train.steps=16", "--resume", devices=2) == 0
    return run


@pytest.mark.slow
def test_members_are_runs_of_their_own(data, alone, members, tmp_path, capsys):
    run = members
    for number, seed in enumerate((777, 778)):
        assert_alike(run / "members" / str(number), alone / str(seed))
        assert (run / "members" / str(number) / "report" / "training_curve.png").is_file()
    # each is a run that every command takes; the whole is their mean
    capsys.readouterr()
    scores = {}
    for name in ("", "members/0", "members/1"):
        scores[name] = evaluate(run / name, tmp_path / "scores.json", "--data", data)
    assert_facts(capsys.readouterr().out, "mean", "2 members")
    assert scores["members/0"]["loss"] != scores["members/1"]["loss"]
    x = np.random.default_rng(0).standard_normal((6, 5, 9)).astype(np.float32)
    both, each = load(run).predict(x), [load(run / "members" / str(m)).predict(x) for m in (0, 1)]
    np.testing.assert_allclose(both, np.mean(each, axis=0), rtol=1e-5, atol=1e-7)
    assert scores[""]["loss"] <= np.mean([scores["members/0"]["loss"], scores["members/1"]["loss"]]) + 0.05
    assert run_command("inspect", run) == 0
    assert capsys.readouterr().out.count("members/") >= 2


@pytest.mark.slow
def test_a_member_that_fell_behind_is_waited_for(data, members, tmp_path, capsys):
    """A run killed while its members saved one after the other goes on from the save that all have."""
    run = tmp_path / "run"
    shutil.copytree(members, run)
    whole = [newest_arrays(run / "members" / m) for m in "01"]
    newest = run / "members" / "1" / "checkpoints" / "latest" / "16"
    newest.rename(tmp_path / "away")
    assert train(data, run, *MEMBERS, "train.steps=16", "--resume", devices=2) == 0
    assert "2 x " in capsys.readouterr().out
    for m, wanted in zip("01", whole, strict=True):
        assert_same_arrays(newest_arrays(run / "members" / m), wanted)


@pytest.mark.long
def test_early_stopping_is_each_member_s_own(data, tmp_path, capsys):
    run = tmp_path / "run"
    stop = ("train.members=3", "train.eval_every=1", "train.early_stopping=2", "optim.learning_rate=1e-9")
    assert train(data, run, *stop, "train.steps=60", "train.log_every=60") == 0
    out = capsys.readouterr().out
    for number in range(3):
        found = split_lines(run / "members" / str(number), "validation")
        best = max(found.values(), key=lambda line: line["macro_f1"])["step"]
        assert max(found) == min(60, best + 2)
        (line,) = [line for line in out.splitlines() if has_fact(line, "early") and has_fact(line, f"member {number}")]
        assert_facts(line, f"step {best + 2}")


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        (["train.members=2", "data.feed=stream"], ("train.members", "data.feed=resident")),
        (["train.steps_per_dispatch=4", "data.feed=stream"], ("train.steps_per_dispatch", "data.feed=resident")),
        (["train.steps_per_dispatch=5", "train.steps=16"], ("steps_per_dispatch=5", "steps=15")),
        (["train.members=2", "report.wandb=true", "train.steps=16"], ("report.wandb", "report.tensorboard=true")),
        (["train.members=2", "train.seed=4294967295", "train.steps=16"], ("seed=4294967295", "train.members=2")),
    ],
)
def test_what_does_not_fit_is_one_line(data, tmp_path, capsys, options, facts):
    fails_with(capsys, train_arguments(data, tmp_path / "run", "--level", 10, *SMALL, *options), *facts)
    assert not (tmp_path / "run").exists()


def test_placement_refuses_members_under_pmap(data):
    with refused("--parallel jit"):
        resident_feed(open_split(data, 10), mode="pmap", devices=2, seeds=(1, 2))
