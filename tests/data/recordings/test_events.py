"""Events: quotation marks, stress digits, unknown symbols, tables that are cut or end early; counts are by hand."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.errors import assert_warned, fails_with, has_fact, refused
from helpers.recordings import write_session
from helpers.runs import inspect, run_command

from demega_jax.data.recordings.events import read_events
from demega_jax.data.recordings.runs import find_recordings
from demega_jax.data.recordings.symbols import check_vanished, label_symbols
from demega_jax.data.recordings.windows import find_windows
from demega_jax.phonemes import ENGLISH_FREQUENCY, PHONEMES

HEAD = "idx\tkind\tsegment\ttimemeg\tduration\n"
ROWS = "0\tphoneme\tah_B\t1.0\t0.1\n1\tword\t{}\t1.0\t0.2\n2\tphoneme\tt_E\t2.0\t0.1\n3\tsil\tsil\t3.5\t0.1\n"
VOWELS = [name for name in PHONEMES if name[0] in "aeiou"]


def table(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "events.tsv"
    path.write_bytes(text.encode(encoding))
    return path


def session(tmp_path: Path, symbols: list[str], seconds: float = 40.0) -> Path:
    """A tree with one session run, whose phonemes are spread over its length."""
    onsets = np.linspace(0.5, seconds - 1, len(symbols))
    x = np.random.default_rng(0).standard_normal((2, round(250 * seconds))).astype(np.float32)
    write_session(tmp_path, 1, x, list(zip(onsets.tolist(), symbols, strict=True)))
    return tmp_path


def speech(rename=lambda name: name) -> list[str]:
    """400 phonemes, each as often as in English, renamed."""
    names = [name for name, share in ENGLISH_FREQUENCY.items() for _ in range(round(4 * share))]
    return [rename(name) for name in np.random.default_rng(1).permutation(names)]


@pytest.mark.parametrize("word", ['"', '"Well', 'said"', '""', '"hello"', "plain"])
def test_a_quotation_mark_in_a_word_takes_no_row_away(tmp_path, word):
    events = read_events(table(tmp_path, HEAD + ROWS.format(word)))
    assert events.symbol == ("ah", "t") and events.onset.tolist() == [1.0, 2.0]
    assert (events.cut, events.last) == (0, 3.5)


def test_a_table_with_every_text_quoted_is_read(tmp_path):
    """As R writes it."""
    quoted = [
        "\t".join(cell if cell.replace(".", "").isdigit() else f'"{cell}"' for cell in line.split("\t"))
        for line in (HEAD + ROWS.format("word")).splitlines()
    ]
    events = read_events(table(tmp_path, "\n".join(quoted)))
    assert events.symbol == ("ah", "t") and events.position.tolist() == [0, 2]


def test_a_byte_order_mark_is_no_fault(tmp_path):
    text = "kind\tsegment\ttimemeg\nphoneme\tah_B\t1\n"
    assert read_events(table(tmp_path, text, "utf-8-sig")).symbol == ("ah",)


def test_rows_that_are_cut_are_counted(tmp_path):
    """A word with a line break in it, which quotation marks would protect, is two rows with too few columns."""
    events = read_events(table(tmp_path, HEAD + ROWS.format('"one\ntwo"')))
    assert events.symbol == ("ah", "t") and events.cut == 2
    with refused("time", "line 6", where=tmp_path / "events.tsv"):
        read_events(table(tmp_path, HEAD + ROWS.format("word") + "4\tphoneme\tah_B\n"))


def test_stress_digits_are_stripped_unless_a_class_has_them():
    labels, unknown = label_symbols(["ah1", "ah", "iy0", "t", "t1", "ax2", "7", "x1y"], ("ah", "iy", "t"))
    assert labels.tolist() == [0, 0, 1, 2, 2, -1, -1, -1]
    assert unknown == Counter({"ax2": 1, "7": 1, "x1y": 1})
    assert label_symbols(["ah1", "ah0"], ("ah", "ah1"))[0].tolist() == [1, 0]


def test_vowels_with_stress_are_the_vowels(tmp_path):
    plain, stressed = tmp_path / "plain", tmp_path / "stressed"
    windows = [
        find_windows(find_recordings(session(folder, speech(rename))))
        for folder, rename in ((plain, str), (stressed, lambda name: f"{name.upper()}1" if name in VOWELS else name))
    ]
    assert windows[0].label.tolist() == windows[1].label.tolist() and len(windows[0]) > 390


def test_unknown_symbols_are_counted_and_named(tmp_path, capsys):
    tree = session(tmp_path / "tree", [*speech(), "qx", "qx", "zz"])
    find_windows(find_recordings(tree))
    assert_warned(capsys.readouterr().err.splitlines(), "3", "qx (2)", "zz (1)")


def test_a_class_that_vanishes_by_unknown_symbols_stops(tmp_path, capsys):
    tree = session(tmp_path / "tree", speech(lambda name: "ax" if name == "ah" else name))
    count = round(4 * ENGLISH_FREQUENCY["ah"])
    fails_with(
        capsys, ["group", tree, tmp_path / "out", "--level", 1, "--split-shares", "1,0,0"], "ah", f"ax ({count})"
    )
    assert not (tmp_path / "out").exists()
    status, _, err = inspect(capsys, tree)
    assert status == 2 and has_fact(err, f"ax ({count})")


@pytest.mark.parametrize(
    "absent, unknown, classes, stops",
    [
        ("ah", {"ax": 30}, PHONEMES, True),
        ("ah", {"ax": 3}, PHONEMES, False),  # too few to be all its events
        ("zh", {"ax": 30}, PHONEMES, False),  # rare enough to be absent by chance
        ("ah", {"ah1": 30}, tuple(name for name in PHONEMES if name != "iy"), False),  # no unknown symbol
        ("ah", {"iy": 30}, tuple(name for name in PHONEMES if name != "iy"), False),  # left out on purpose
        ("ah", {"ax": 30}, ("ah", "dog", "cat"), False),  # nobody knows how often they are
    ],
)
def test_only_a_class_that_is_missed_stops(absent, unknown, classes, stops):
    counts = np.full(len(classes), 10)
    counts[classes.index(absent)] = 0
    where = Path("events.tsv")
    if stops:
        with refused(absent, "ax (30)", where=where):
            check_vanished(where, counts, Counter(unknown), classes)
    else:
        check_vanished(where, counts, Counter(unknown), classes)


def test_events_that_end_long_before_their_recording_are_named(tmp_path, capsys):
    """Of 100 s and of 1000 s: an end without events of up to 30 s, and up to a tenth, is usual."""
    for seconds, last, named in ((100, 71, False), (100, 69, True), (1000, 901, False), (1000, 899, True)):
        tree = tmp_path / f"{seconds}_{last}"
        events = [(float(onset), "aa") for onset in range(1, last)] + [(float(last), "sil")]
        write_session(tree, 1, np.random.default_rng(0).standard_normal((2, 250 * seconds)), events)
        find_windows(find_recordings(tree))
        assert has_fact(capsys.readouterr().err, "last event") == named
        assert run_command("inspect", tree) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert has_fact(out, f"last event is at {last}.0 s of {seconds}.0 s") == named


def test_a_session_run_without_a_phoneme_is_named(tmp_path, capsys):
    tree = session(tmp_path, ["aa", "b"])
    write_session(tree, 2, np.random.default_rng(0).standard_normal((2, 2500)), [])
    find_windows(find_recordings(tree))
    assert_warned(capsys.readouterr().err.splitlines(), "1 session run has no phoneme", "0/2/Sherlock1/2")


UNREADABLE = {
    "empty": (b"", ["column", "kind"]),
    "comma": (b"kind,segment,timemeg\nphoneme,ah_B,1\n", ["column", "kind"]),
    "UTF-16": ("kind\tsegment\ttimemeg\n".encode("utf-16"), ["cannot be read"]),
    "spaces": (b"kind \t segment\ttimemeg\nphoneme\tah_B\t1\n", ["column", "kind"]),
    "n/a": (b"kind\tsegment\ttimemeg\nphoneme\tah_B\tn/a\n", ["time", "n/a", "line 2"]),
    "all n/a": (b"kind\tsegment\ttimemeg\nn/a\tn/a\tn/a\n", ["no phoneme"]),
    "no rows": (b"kind\tsegment\ttimemeg\n", ["no phoneme"]),
    "other symbols": (b"kind\tsegment\ttimemeg\nphoneme\tqq\t1\n", ["no phoneme", "qq (1)"]),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_inspect_names_each_events_file_that_is_not_sound(tmp_path, capsys, what):
    content, facts = UNREADABLE[what]
    tree = session(tmp_path, ["aa", "b"], 3.0)
    path = next(tree.rglob("*_events.tsv"))
    path.write_bytes(content)
    status, out, err = inspect(capsys, tree)
    assert status == 2 and err.count("\n") == 1 and err.startswith("error: ")
    assert all(has_fact(err, fact) for fact in [path, *facts]), err
