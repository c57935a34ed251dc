"""Folders whose names mean something to patterns, shells or markup: each command that makes data writes there alone."""

from helpers.runs import inspect, run_command


def test_data_are_made_and_read_below_odd_names(tmp_path, own_cache, monkeypatch, capsys):
    (folder := tmp_path / "a[b]*\\c [1-3]?").mkdir()
    monkeypatch.chdir(tmp_path)
    for command in (
        ["simulate", folder / "grouped", "--level", 5, "--groups", 320, "--sensors", 3, "--time-points", 5],
        ["shard", folder / "grouped", folder / "shards"],
        ["simulate", folder / "tree", "--recordings", "--minutes", 1, "--sensors", 6],
        ["group", folder / "tree", folder / "means", "--level", 5],
    ):
        assert run_command(*command) == 0
    names = ("grouped", "means", "shards", "tree")
    status, out, err = inspect(capsys, *(folder / name for name in names), "--json", folder / "found.json")
    assert status == 0, out + err
    assert sorted(path.name for path in folder.iterdir()) == ["found.json", *names]
    assert {path.name for path in tmp_path.iterdir()} - {"cache"} == {folder.name}
