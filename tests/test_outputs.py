"""Where results go: through links, FIFOs and devices that the user names, never through what others have planted."""

import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers import ROOT
from helpers.errors import fails_with, refused
from helpers.runs import run_command

from demega_jax.api.paths import check_outputs
from demega_jax.data.hdf5 import atomic_h5
from demega_jax.data.hub.client import HubFile
from demega_jax.data.hub.transfer import fetch, partial_path
from demega_jax.evaluation.report.figure import new_figure, save_figure
from demega_jax.files import atomic_write, open_part, output, write_results
from demega_jax.training.writers import MetricsWriter


def test_the_target_of_a_link_is_written_and_the_link_stays(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "old.json").write_text("old")
    for name in ("old.json", "new.json"):
        (tmp_path / name).symlink_to(f"far/{name}")
        write_results(tmp_path / name, {"a": 1})
        assert (tmp_path / name).is_symlink() and (tmp_path / "far" / name).read_text() == '{\n "a": 1\n}\n'
    assert sorted(os.listdir(tmp_path / "far")) == ["new.json", "old.json"]


def test_a_fifo_is_written_through_once_all_is_there(tmp_path):
    fifo, got = tmp_path / "fifo", []
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: got.append(fifo.read_text()))
    reader.start()
    with output(fifo, "x") as aside:
        aside.write_text("half")
        time.sleep(0.2)
        assert not got
        aside.write_text("whole")
    reader.join(10)
    assert got == ["whole"] and stat.S_ISFIFO(fifo.lstat().st_mode) and os.listdir(tmp_path) == ["fifo"]


def test_a_device_is_written_through(tmp_path):
    """By its name, and by a link; a terminal is the device that everybody may make."""
    main, end = os.openpty()
    link = tmp_path / "terminal"
    link.symlink_to(os.ttyname(end))
    for path in (link, Path(os.ttyname(end))):
        write_results(path, {})
        assert os.read(main, 100) == b"{}\r\n"
    assert link.is_symlink() and stat.S_ISCHR(os.stat(link).st_mode)
    os.close(main)
    os.close(end)


def test_nothing_is_sent_after_a_failure(tmp_path):
    main, end = os.openpty()
    with pytest.raises(ZeroDivisionError), output(Path(os.ttyname(end)), "x") as aside:
        aside.write_text("half")
        raise ZeroDivisionError
    os.set_blocking(main, False)
    with pytest.raises(BlockingIOError):
        os.read(main, 100)
    os.close(main)
    os.close(end)


def test_a_figure_follows_the_users_link_alone(tmp_path):
    for name, how in (("ours.png", atomic_write), ("theirs.png", output)):
        (tmp_path / f"target-{name}").write_text("old")
        (tmp_path / name).symlink_to(tmp_path / f"target-{name}")
        save_figure(new_figure(1, 1), tmp_path / name, write=how)
    assert (tmp_path / "target-ours.png").read_text() == "old" and not (tmp_path / "ours.png").is_symlink()
    assert (tmp_path / "target-theirs.png").read_bytes().startswith(b"\x89PNG") and (
        tmp_path / "theirs.png"
    ).is_symlink()


@pytest.mark.parametrize("how", ["/dev/stdout", "the file itself"])
def test_stdout_in_a_file_is_not_replaced(tmp_path, how):
    """What was printed before and after the results stays."""
    path = tmp_path / "out.txt"
    code = (
        "import sys; from pathlib import Path; from demega_jax.files import write_results; print('before');"
        "write_results(Path(sys.argv[1]), {'a': 1}); print('after')"
    )
    with path.open("w") as file:
        named = path if how == "the file itself" else how
        subprocess.run([sys.executable, "-c", code, str(named)], stdout=file, check=True, cwd=ROOT)
    assert path.read_text() == 'before\n{\n "a": 1\n}\nafter\n'


def test_every_command_writes_its_results_in_this_way():
    for file in sorted((ROOT / "demega_jax" / "commands").glob("*.py")):
        text = file.read_text()
        assert "write_json(json_file" not in text, file
        assert ("json_file: Json" in text) == ("write_results(json_file" in text), file
        assert ("json_file: Json" not in text) or "check_outputs(json_file" in text, file


def test_inspect_through_a_fifo_and_to_what_cannot_be_written(tmp_path, capsys):
    grouped = ROOT / "tests" / "golden" / "grouped_10"
    os.mkfifo(tmp_path / "fifo")
    reader = subprocess.Popen(["cat", str(tmp_path / "fifo")], stdout=subprocess.PIPE, text=True)
    assert run_command("inspect", grouped, "--json", tmp_path / "fifo") == 0
    assert reader.communicate(timeout=20)[0].startswith('{\n "format": 1')
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    for name, fact in (
        ("n" * 300, "name"),
        ("x/" + "n" * 300, "letters"),
        (".", "folder"),
        ("file/x.json", "directory"),
        ("loop", "links"),
    ):
        fails_with(capsys, ["inspect", grouped, "--json", tmp_path / name], fact)
    assert sorted(os.listdir(tmp_path)) == ["fifo", "file", "loop"]


def test_names_of_the_greatest_length_are_written(tmp_path):
    for path in (tmp_path / ("n" * 255), tmp_path / ("\N{GREEK SMALL LETTER ALPHA}" * 127)):
        check_outputs(path)
        write_results(path, {})
        assert path.read_text() == "{}\n"


def test_one_file_for_two_results_is_found_behind_links(tmp_path):
    (tmp_path / "link").symlink_to("file")
    with refused("--plot", "same file"):
        check_outputs(tmp_path / "file", tmp_path / "link")
    check_outputs(Path("/dev/null"), Path("/dev/null"))


def plant(way: str, place: Path, target: Path) -> None:
    """Something in the place of a file that is going to be written."""
    target.write_text("precious")
    if way == "link":
        place.symlink_to(target)
    elif way == "hard link":
        place.hardlink_to(target)
    elif way == "dangling link":
        place.symlink_to(target.with_name("new"))
    else:
        os.mkfifo(place)


WAYS = ["link", "hard link", "dangling link", "FIFO"]


@pytest.mark.parametrize("way", WAYS)
def test_planted_parts_are_refused_and_what_they_name_is_untouched(tmp_path, way):
    target = tmp_path / "elsewhere"
    (tmp_path / "D").mkdir()
    path = tmp_path / "D" / "data.h5"
    plant(way, path.with_name("data.h5.partial"), target)
    with refused("data.h5.partial", way.removeprefix("dangling "), "remove", where=path), atomic_h5(path) as (file, _):
        file["x"] = 1
    file = HubFile("a/b", "main", "big.h5", 4, None, "0" * 40)
    plant(way, partial_path(file, tmp_path / "D" / "big.h5"), tmp_path / "again")
    with refused("partial", way.removeprefix("dangling "), where=tmp_path / "D" / "big.h5"):
        fetch(file, tmp_path / "D" / "big.h5", lambda count: None)
    assert target.read_text() == (tmp_path / "again").read_text() == "precious" and not (tmp_path / "new").exists()


def test_a_planted_link_in_the_place_of_metrics_is_not_followed(tmp_path):
    plant("dangling link", tmp_path / "metrics.jsonl", tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        MetricsWriter(tmp_path / "metrics.jsonl")
    assert not (tmp_path / "new").exists()


def test_a_part_grows_at_its_end(tmp_path):
    (tmp_path / "part").write_bytes(b"abc")
    with os.fdopen(open_part(tmp_path / "part", os.O_APPEND), "r+b", buffering=0) as file:
        file.write(b"d")
        assert (tmp_path / "part").read_bytes() == b"abcd"
        file.truncate(0)
        file.write(b"e")
    assert (tmp_path / "part").read_bytes() == b"e"


def test_a_new_file_is_private_until_it_is_whole(tmp_path):
    with atomic_write(tmp_path / "file") as aside:
        assert aside.stat().st_mode & 0o777 == 0o600 and aside.parent == tmp_path
        with atomic_write(tmp_path / "file") as other:
            assert other.name != aside.name
            other.write_text("x")
        aside.write_text("y")
    assert (tmp_path / "file").read_text() == "y"
