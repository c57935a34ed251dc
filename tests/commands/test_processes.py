"""Which of several processes a command is: options, and what schedulers put into the environment."""

import contextlib

import pytest
from helpers.errors import fails_with, refused
from helpers.runs import run_command

from demega_jax.cli import COMMANDS
from demega_jax.commands.shared.processes import EACH, TOGETHER, Ours, check_one_task, first_host, processes_of

SLURM = {
    "SLURM_JOB_ID": "4100",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
}
TPU = {"TPU_WORKER_HOSTNAMES": "t0,t1,t2", "TPU_WORKER_ID": "2"}


def of(*options: object, **environment: str) -> Ours | None:
    return processes_of(*options, 60, environment)


def test_without_options_and_scheduler_a_process_is_alone(warnings):
    assert of(None, None, None) is None
    assert of("h:1", 1, 0) is None
    assert of(None, None, None, KUBERNETES_SERVICE_HOST="10.0.0.1", JOB_COMPLETION_INDEX="1") is None
    assert warnings == []


def test_options_say_which_process_it_is():
    ours = of("[fe80::1]:61500", 3, 2)
    assert ours == Ours("[fe80::1]:61500", 3, 2, 60)
    assert ours.address == ("fe80::1", 61500)


def test_a_task_of_slurm_knows_itself():
    """Port: 61440 + 4100 modulo 4096. Two tasks on a node: each takes the GPU of its local number."""
    assert of(None, None, None, **SLURM) == Ours("gpu07:61444", 4, 3, 60, 1)
    alone_on_node = SLURM | {"SLURM_STEP_NUM_NODES": "4", "SLURM_STEP_NODELIST": "a,b,c,d", "SLURM_LOCALID": "0"}
    assert of(None, None, None, **alone_on_node) == Ours("a:61444", 4, 3, 60, None)
    assert of("gpu08:70", None, None, **SLURM) == Ours("gpu08:70", 4, 3, 60, 1)


def test_one_task_of_slurm_is_alone(warnings):
    assert of(None, None, None, **SLURM | {"SLURM_STEP_NUM_TASKS": "1"}) is None
    assert warnings == []


def test_tasks_that_were_not_started_are_named(warnings):
    """A batch script that starts the command without `srun`."""
    batch = {"SLURM_JOB_ID": "4100", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}
    assert of(None, None, None, **batch) is None
    (line,) = warnings
    assert "4 tasks" in line and "`srun` before the command" in line


def test_a_host_of_a_tpu_pod_knows_itself():
    assert of(None, None, None, **TPU) == Ours("t0:8476", 3, 2, 60)
    assert of(None, None, None, TPU_WORKER_HOSTNAMES="localhost", TPU_WORKER_ID="0") is None


def test_a_pod_of_an_indexed_job_takes_its_number_from_kubernetes():
    assert of("train-0.train:61500", 4, None, JOB_COMPLETION_INDEX="3") == Ours("train-0.train:61500", 4, 3, 60)


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        (("h:1", None, None), ("--processes",)),
        ((None, 2, 1), ("--coordinator",)),
        (("h:1", 2, None), ("--process-id",)),
        (("h:1", 2, 2), ("process 2 of 2", "0 to 1")),
        (("host", 2, 0), ("`host`", "HOST:PORT")),
        ((":7", 2, 0), ("`:7`", "HOST:PORT")),
        (("h:0", 2, 0), ("`h:0`", "1 to 65535")),
        (("h:65536", 2, 0), ("`h:65536`", "1 to 65535")),
        (("h:1x", 2, 0), ("`h:1x`", "1 to 65535")),
    ],
)
def test_options_that_do_not_fit_are_refused(options, facts):
    with refused(*facts):
        of(*options)


@pytest.mark.parametrize("name", ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_JOB_ID"])
@pytest.mark.parametrize("value", ["", "x", "-1"])
def test_a_damaged_variable_is_named(name, value):
    with refused(name):
        of(None, None, None, **SLURM | {name: value})


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("node1", "node1"),
        ("node1,b2", "node1"),
        ("node[001-015],b", "node001"),
        ("n[7,9-12]", "n7"),
        ("a,n[1-2]", "a"),
        ("n[1-2]-ib,c", "n1-ib"),
    ],
)
def test_the_first_host_of_a_list(nodes, host):
    assert first_host(nodes) == host


def test_a_dry_run_is_of_one_process(capsys):
    assert (
        run_command(
            "train", "configs/tiny.yaml", "--dry-run", "--coordinator", "h:1", "--processes", 2, "--process-id", 0
        )
        == 2
    )
    assert "--dry-run: given to several processes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "refused_"),
    [
        (["evaluate", "runs/first", "--json", "a.json"], False),
        (["report", "runs/first"], True),
        (["inspect", "data"], True),
        (["predict", "runs/first"], True),
        (["sweep", "c.yaml", "--seeds", "2"], True),
        (["sweep", "c.yaml", "--cells", "1/4"], False),
        (["train", "c.yaml", "--run", "r"], False),
        (["doctor", "--json", "a.json"], True),
        (["doctor", "--json=a.json"], True),
        (["doctor"], False),
    ],
)
def test_tasks_of_slurm_do_not_do_the_same(words, refused_):
    """Each of four tasks is refused, or none is. A task alone and a batch script are not."""
    command, *rest = words
    for environment in ({}, SLURM | {"SLURM_STEP_NUM_TASKS": "1"}, {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4"}):
        check_one_task(command, rest, environment)
    for number in "03":
        with refused(f"task {number} of 4", "--ntasks=1", command) if refused_ else contextlib.nullcontext():
            check_one_task(command, rest, SLURM | {"SLURM_PROCID": number})


def test_predict_in_a_task_of_slurm_ends_before_it_reads(monkeypatch, capsys, tmp_path):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    words = ["predict", tmp_path / "none", "--input", tmp_path, "--output", tmp_path / "a.csv"]
    fails_with(capsys, words, "task 3 of 4", "srun --ntasks=1 demega-jax predict")
    assert run_command("predict", "--help") == 0
    assert not list(tmp_path.iterdir())


def test_commands_that_run_in_several_tasks_exist():
    assert set(TOGETHER + EACH) <= set(COMMANDS)
