"""What a run shows: plain lines with the clock by hand, and a bar that never wraps."""

import datetime
import io
import re
import sys
import threading

import pytest
from rich.console import Console

from demega_jax import errors
from demega_jax.training.progress import REFRESHES_PER_SECOND, Progress, duration

NOW, STAMP = datetime.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02 03:04:05 "


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def plain(total, **options):
    out, clock = io.StringIO(), Clock()
    return Progress(total, console=Console(file=out, width=80), clock=clock, now=lambda: NOW, **options), out, clock


def bar(total, **options):
    out, clock = io.StringIO(), Clock()
    console = Console(force_terminal=True, file=out, width=80, _environ={"TERM": "xterm"})
    return Progress(total, console=console, clock=clock, **options), out, clock


def test_plain_lines_and_the_time_left():
    progress, out, clock = plain(400)
    with progress:
        clock.now += 30  # 20 s of it compile
        progress.log_train(100, 1.0, {"loss": 3.5, "samples_per_second": 511.6, "grad_norm": 1.0})
        clock.now += 10  # 100 steps in 10 s since the first log point: 200 more take 20 s
        progress.log_train(200, 2.0, {"loss": 3.21, "samples_per_second": 5120.0})
        progress.log_validation(200, 2.0, {"loss": 3.0, "macro_f1": 0.25, "balanced_accuracy": 0.3}, True)
        progress.log_validation(400, 4.0, {"macro_f1": 0.2}, False)
        progress.log_train(400, 4.0, {"loss": float("nan")})
    assert [line.removeprefix(STAMP) for line in out.getvalue().splitlines()] == [
        "step 100/400 epoch 1.0 loss 3.5 samples/s 512 left 1m30s",
        "step 200/400 epoch 2.0 loss 3.21 samples/s 5120 left 20s",
        "step 200/400 epoch 2.0 validation loss 3 macro-F1 0.2500 balanced accuracy 0.3000 best",
        "step 400/400 epoch 4.0 validation macro-F1 0.2000",
        "step 400/400 epoch 4.0 loss nan left 0s",
    ]


def test_a_resumed_run_counts_its_own_steps_only():
    progress, out, clock = plain(400, start_step=300)
    with progress:
        clock.now += 5  # 50 steps in 5 s: 50 more take 5 s
        progress.log_train(350, 3.5, {"loss": 1.0})
    assert out.getvalue() == f"{STAMP}step 350/400 epoch 3.5 loss 1 left 5s\n"


def test_plain_messages_stay_one_line_and_warnings_stay_on_stderr(capsys):
    progress, out, _ = plain(10)
    long = "compiling [train] " + "x" * 200
    with progress:
        progress.message(long)
        errors.warn("2 rows skipped")
    assert out.getvalue() == STAMP + long + "\n"
    assert capsys.readouterr().err == "warning: 2 rows skipped\n"


def test_a_quiet_terminal_keeps_its_warnings(capsys):
    out = io.StringIO()
    console = Console(force_terminal=True, file=out, width=80, quiet=True, _environ={"TERM": "xterm"})
    with Progress(10, console=console) as progress:
        progress.log_validation(5, 0.5, {"macro_f1": 0.5}, True)
        errors.warn("2 rows skipped")
    assert (out.getvalue(), capsys.readouterr().err) == ("", "warning: 2 rows skipped\n")


def screen(text):
    """Lines on the screen [row] after a terminal has read `text`: carriage return, cursor up, erase line, new line."""
    rows, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
        if token == "\n":
            row, column = row + 1, 0
            if row == len(rows):
                rows.append("")
        elif token == "\r":
            column = 0
        elif token.endswith("A"):
            row -= int(token[2:-1] or 1)
        elif token == "\x1b[2K":
            rows[row] = ""
        elif not token.startswith("\x1b"):
            rows[row] = rows[row][:column].ljust(column) + token + rows[row][column + len(token) :]
            column += len(token)
    return rows


def test_the_bar_shows_all_and_never_wraps():
    progress, out, clock = bar(400_000, start_step=100_000)
    with progress:
        progress.message("compiling ... 4.2 s")
        clock.now += 1000
        progress.log_train(200_000, 1200.25, {"loss": 3.2149, "samples_per_second": 123456.0})
        progress.log_validation(200_000, 1200.25, {"loss": 3.0, "macro_f1": 0.31}, True)
        progress.log_validation(200_000, 1200.25, {"loss": 3.0, "macro_f1": 0.25}, False)
    rows = screen(out.getvalue())
    assert rows[0] == "compiling ... 4.2 s"
    assert rows[1].startswith("step 200000/400000 ━━━") and rows[1].rstrip().endswith("33m20s left")
    assert rows[2].rstrip() == "epoch 1200.2  loss 3.215  macro-F1 0.250 (best 0.310)  123456 samples/s"
    assert [row for row in rows[3:] if row] == []
    assert max(map(len, rows)) <= 80
    last = out.getvalue().rindex("step 200000/400000")
    done, all_of_it = re.search(r"\x1b\[36m(━*)", out.getvalue()[last:])[1], rows[1].count("━")
    assert abs(len(done) - all_of_it / 2) <= 1  # half of the steps, half of the bar
    assert out.getvalue().endswith("\x1b[?25h")  # the cursor is back


def test_the_bar_shows_the_score_that_is_monitored():
    for monitor, shown in (("loss", "validation loss 0.500"), ("balanced_accuracy_at_10", "at 10 0.250")):
        progress, out, _ = bar(10, monitor=monitor)
        with progress:
            progress.log_validation(5, 1.0, {"loss": 0.5, "macro_f1": 0.1, "balanced_accuracy_at_10": 0.25}, True)
        assert f"{shown} (best {shown.split()[-1]})" in out.getvalue()


def test_a_narrow_terminal_cuts_instead_of_wrapping():
    out = io.StringIO()
    console = Console(force_terminal=True, file=out, width=40, _environ={"TERM": "xterm"})
    with Progress(10, console=console) as progress:
        progress.log_train(5, 1.0, {"loss": 1.0, "samples_per_second": 1e6})
        progress.log_validation(5, 1.0, {"macro_f1": 0.5}, True)
    rows = [row for row in screen(out.getvalue()) if row]
    assert len(rows) == 2 and max(map(len, rows)) <= 40


def test_warnings_go_above_the_bar_and_to_a_redirected_stderr_until_it_ends(capsys):
    progress, out, _ = bar(10)
    with progress:
        errors.warn("3 rows of zeros")
    assert screen(out.getvalue())[0] == "warning: 3 rows of zeros"
    assert capsys.readouterr().err == "warning: 3 rows of zeros\n"
    errors.warn("later")
    assert "later" not in out.getvalue()
    assert capsys.readouterr().err == "warning: later\n"


def test_on_a_terminal_a_warning_is_shown_once(monkeypatch):
    stderr = io.StringIO()
    stderr.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", stderr)
    progress, out, _ = bar(10)
    with progress:
        errors.warn("3 rows of zeros")
    assert out.getvalue().count("3 rows of zeros") == 1
    assert stderr.getvalue() == ""


def test_the_sink_and_the_thread_go_when_a_run_fails(capsys):
    before = set(threading.enumerate())
    progress, _, _ = bar(10)
    with pytest.raises(RuntimeError, match="bug"), progress:
        (thread,) = set(threading.enumerate()) - before
        raise RuntimeError("bug")
    thread.join(timeout=10)  # it was told to end, and is not waited for
    assert not thread.is_alive()
    errors.warn("after")
    assert capsys.readouterr().err == "warning: after\n"
    assert REFRESHES_PER_SECOND <= 4


def test_a_dumb_terminal_gets_plain_lines():
    out = io.StringIO()
    console = Console(force_terminal=True, file=out, width=80, _environ={"TERM": "dumb"})
    with Progress(10, console=console, now=lambda: NOW) as progress:
        progress.log_validation(5, 0.5, {"macro_f1": 0.5}, False)
    assert out.getvalue() == f"{STAMP}step 5/10 epoch 0.5 validation macro-F1 0.5000\n"


@pytest.mark.parametrize(
    "seconds, text", [(0.4, "0s"), (59.7, "1m00s"), (80, "1m20s"), (7500, "2h05m"), (3 * 86400 + 4 * 3600, "3d04h")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text
