"""metrics.jsonl line by line, TensorBoard events read back, and Weights & Biases by what it was told."""

import math
import struct
import sys
import types

import pytest
from helpers.errors import refused, the_warning
from helpers.runs import lines_of as lines

from demega_jax.training.writers import MetricsWriter, open_writers, read_metrics, truncate_after


def plain(run, resume_step=None):
    return open_writers(run, tensorboard=False, wandb=False, config={}, resume_step=resume_step)


def test_lines_are_flushed_one_by_one_and_are_always_json(tmp_path):
    writer = MetricsWriter(tmp_path / "metrics.jsonl")
    writer.write("train", 5, 0.5, {"loss": 3.25, "grad_norm": math.nan, "count": 7, "class_loss": None})
    written = (tmp_path / "metrics.jsonl").read_text()  # before it is closed
    assert written == (
        '{"step": 5, "epoch": 0.5, "split": "train", "loss": 3.25, "grad_norm": null, "count": 7, "class_loss": null}\n'
    )
    writer.write("validation", 6, 0.6, {"loss": -math.inf, "macro_f1": 0.1})
    writer.close()
    assert lines(tmp_path / "metrics.jsonl")[1] == {
        "step": 6,
        "epoch": 0.6,
        "split": "validation",
        "loss": None,
        "macro_f1": 0.1,
    }
    assert read_metrics(tmp_path / "metrics.jsonl") == lines(tmp_path / "metrics.jsonl")


def test_truncation_keeps_the_bytes_up_to_the_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    head = '{"step": 1,   "odd spacing": "ä"}\n{"step": 4, "split": "validation"}\n{"step": 4}\n'
    path.write_text(head + '{"step": 5}\n{"step": 8, "los', encoding="utf-8")
    truncate_after(path, 4)
    assert path.read_text(encoding="utf-8") == head
    truncate_after(path, 0)
    assert path.read_bytes() == b""
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_truncation_drops_a_torn_last_line_and_mends_a_missing_end(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2, "x": "\xc3')  # torn inside a character
    truncate_after(path, 9)
    assert path.read_bytes() == b'{"step": 1}\n'
    path.write_bytes(b'{"step": 1}\n{"step": 2}')  # torn just before the end of the line
    truncate_after(path, 9)
    assert path.read_bytes() == b'{"step": 1}\n{"step": 2}\n'


def test_unreadable_lines_in_the_middle_are_counted(tmp_path, capsys):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\nnonsense\n[1]\n{"step": 2}\n{"st')
    assert [line["step"] for line in read_metrics(path)] == [1, 2]
    the_warning(capsys.readouterr().err.splitlines(), path, "2", "5")
    assert [line["step"] for line in read_metrics(path)] == [1, 2]


def test_truncation_of_nothing_is_nothing_and_reading_it_is_refused(tmp_path):
    truncate_after(tmp_path / "metrics.jsonl", 3)
    assert not list(tmp_path.iterdir())
    with refused("no such file", where=tmp_path / "metrics.jsonl"):
        read_metrics(tmp_path / "metrics.jsonl")


def test_an_interrupted_truncation_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n')

    def fail(*_):
        raise OSError("disk gone")

    monkeypatch.setattr("os.replace", fail)
    with refused("disk gone", where=path):
        truncate_after(path, 1)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_resumed_run_goes_on_after_the_restored_step_and_a_new_one_needs_a_new_folder(tmp_path):
    writers = plain(tmp_path)
    for step in (1, 2, 3):
        writers.write("train", step, step / 10, {"loss": float(step)})
    writers.close()
    with refused("--resume"):
        plain(tmp_path)
    writers = plain(tmp_path, resume_step=2)
    writers.write("train", 3, 0.3, {"loss": 30.0})
    writers.close()
    assert [(line["step"], line["loss"]) for line in lines(tmp_path / "metrics.jsonl")] == [
        (1, 1.0),
        (2, 2.0),
        (3, 30.0),
    ]


def events(folder):
    """TensorBoard events of a folder, files by name as TensorBoard reads them, parsed with tensorboardX's protobuf.

    A record: length (8 bytes), its checksum (4), the data, their checksum (4).
    """
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.iterdir()):
        raw, at = path.read_bytes(), 0
        while at < len(raw):
            (length,) = struct.unpack_from("<Q", raw, at)
            found.append(Event.FromString(raw[at + 12 : at + 12 + length]))
            at += 16 + length
    return found


def scalars(folder):
    return [(event.step, value.tag, value.simple_value) for event in events(folder) for value in event.summary.value]


def test_tensorboard_events_read_back(tmp_path):
    writers = open_writers(tmp_path, tensorboard=True, wandb=False, config={}, resume_step=None)
    writers.write("train", 10, 0.5, {"loss": 3.5, "grad_norm": math.inf})
    writers.write("validation", 20, 1.0, {"macro_f1": 0.25})
    writers.close()
    assert scalars(tmp_path / "tensorboard") == [
        (10, "train/epoch", 0.5),
        (10, "train/loss", 3.5),
        (20, "validation/epoch", 1.0),
        (20, "validation/macro_f1", 0.25),
    ]
    assert [line["step"] for line in lines(tmp_path / "metrics.jsonl")] == [10, 20]


def test_a_resumed_run_tells_tensorboard_from_where_and_overwrites_nothing(tmp_path):
    for resume_step, step in ((None, 20), (10, 11), (10, 12)):  # all within a second or so
        writers = open_writers(tmp_path, tensorboard=True, wandb=False, config={}, resume_step=resume_step)
        writers.write("train", step, 1.0, {"loss": float(step)})
        writers.close()
    from tensorboardX.proto.event_pb2 import SessionLog

    folder = tmp_path / "tensorboard"
    starts = [e.step for e in events(folder) if e.session_log.status == SessionLog.START]
    assert starts == [11, 11]  # TensorBoard discards events from this step on, of those that came before
    assert [(step, value) for step, tag, value in scalars(folder) if tag == "train/loss"] == [
        (20, 20.0),
        (11, 11.0),
        (12, 12.0),
    ]


class WandbStandIn(types.ModuleType):
    """Records what W&B is told; W&B itself is not among the packages that tests need."""

    class Error(Exception):
        pass

    def __init__(self, refuse=False):
        super().__init__("wandb")
        self.calls, self.refuse = [], refuse
        self.id = "abc123"

    def init(self, **options):
        if self.refuse:
            raise self.Error("api_key not configured")
        self.calls.append(("init", options))
        return self

    def define_metric(self, name, step_metric=None):
        self.calls.append(("define_metric", name, step_metric))

    def log(self, values):
        self.calls.append(("log", values))

    def finish(self):
        self.calls.append(("finish",))


def test_wandb_is_told_config_values_and_to_go_on_in_the_same_run(tmp_path, monkeypatch):
    wandb = WandbStandIn()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    run = tmp_path / "k100"
    run.mkdir()
    writers = open_writers(run, tensorboard=False, wandb=True, config={"train": {"seed": 1}}, resume_step=None)
    writers.write("train", 10, 0.5, {"loss": 3.5, "grad_norm": math.nan})
    writers.close()
    first = {
        "project": "demega-jax",
        "name": "k100",
        "dir": str(run),
        "config": {"train": {"seed": 1}},
        "id": None,
        "resume": None,
        "settings": {"console": "off"},
    }
    assert wandb.calls == [
        ("init", first),
        ("define_metric", "step", None),
        ("define_metric", "*", "step"),
        ("log", {"step": 10, "epoch": 0.5, "train/loss": 3.5}),
        ("finish",),
    ]
    wandb.calls.clear()
    open_writers(run, tensorboard=False, wandb=True, config={}, resume_step=10).close()
    assert wandb.calls[0] == ("init", {**first, "config": {}, "id": "abc123", "resume": "allow"})


def test_a_refusal_of_wandb_is_an_error_of_the_user_and_cuts_nothing_back(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", WandbStandIn(refuse=True))
    (tmp_path / "metrics.jsonl").write_text('{"step": 5}\n')
    with refused("api_key not configured", "WANDB_MODE=offline"):
        open_writers(tmp_path, tensorboard=False, wandb=True, config={}, resume_step=1)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 5}\n'


@pytest.mark.parametrize("package, extra", [("tensorboardX", "tensorboard"), ("wandb", "wandb")])
def test_a_missing_package_names_the_extra_and_writes_nothing(tmp_path, monkeypatch, package, extra):
    monkeypatch.setitem(sys.modules, package, None)  # how Python itself spells "there is none"
    with refused(f"pip install -e '.[{extra}]'"):
        open_writers(tmp_path, tensorboard=extra == "tensorboard", wandb=extra == "wandb", config={}, resume_step=None)
    assert not list(tmp_path.iterdir())


def test_closing_goes_on_when_a_writer_fails(tmp_path, monkeypatch):
    wandb = WandbStandIn()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    writers = open_writers(tmp_path, tensorboard=False, wandb=True, config={}, resume_step=None)

    def fail():
        raise OSError("disk full")

    monkeypatch.setattr(writers.writers[0], "close", fail)
    with pytest.raises(OSError, match="disk full"):
        writers.close()
    assert wandb.calls[-1] == ("finish",)


@pytest.mark.parametrize("content", [b"", b"../../x", b"two words", b"\xff", b"a" * 2000, b"a\nb"])
def test_an_id_of_wandb_that_is_none_is_not_used(tmp_path, monkeypatch, content):
    wandb = WandbStandIn()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    (tmp_path / "wandb_id.txt").write_bytes(content)
    with refused("W&B", "delete", where=tmp_path / "wandb_id.txt"):
        open_writers(tmp_path, tensorboard=False, wandb=True, config={}, resume_step=3)
    assert not wandb.calls and (tmp_path / "wandb_id.txt").read_bytes() == content
