"""Each function makes one input from random choices, and gives it to what reads it.

It returns for input that is taken, and raises `UserError` for input that is refused; anything else is a fault. The
choices are of `random.Random`, so that hypothesis can make and shrink them.
"""

import contextlib
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import h5py
import numpy as np
from helpers import ROOT

from demega_jax.errors import UserError

ODD = [
    "",
    " ",
    "0",
    "-1",
    "1e400",
    "nan",
    "inf",
    ".inf",
    "-0",
    "null",
    "true",
    "[]",
    "{}",
    "[1, 2",
    "a: b",
    "&a [*a]",
    "*x",
    "!!int x",
    "\0",
    "\udcff",
    "é",
    "左",
    "9" * 400,
    "0x1p3",
    "1_000",
    "1:30",
    "2020-01-01",
    "~",
    "..",
    "\t",
    "/dev/null",
    "\n",
    '"',
    "'",
    "a,b",
    "1,,2",
    "5-",
    "-5",
    "100-5",
    "all",
    "%s",
    "${HOME}",
    "[red]x[/red]",
    "1.5",
    "\x1b[31m",
    "2**70",
]
ODD_JSON = [None, -1, 0, 1, 2**70, 1.5, True, "", "../x", "/dev/zero", [], {}, [[]], "a\0b", 10**9]


def any_text(rng: Random) -> str:
    kind = rng.randrange(3)
    if kind == 0:
        return rng.choice(ODD)
    letters = "abz09 .,:=-_[]{}/\\\"'\t\néß\0" if kind == 1 else "0123456789.eE+-"
    return "".join(rng.choice(letters) for _ in range(rng.randrange(12)))


def spoiled(rng: Random, content: bytes) -> bytes:
    """Bytes with some of them changed, left out, doubled or put in."""
    out = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(out) + 1)
        put = rng.choice([b"", b"\xff", b"\0", b"{", b"]", b"&a ", b"*a", b"- ", b"\t", b"-1", b"1e999", b"nan", b'"'])
        out[at : at + rng.randint(0, 8)] = put * rng.choice([1, 1, 1, 50])
    return bytes(out)


def config_file(rng: Random, folder: Path) -> None:
    from demega_jax.config.load import load_config

    path = folder / "config.yaml"
    whole = rng.choice(sorted((ROOT / "configs").glob("*.yaml"))).read_bytes()
    path.write_bytes(spoiled(rng, whole))
    load_config(path)


def overrides(rng: Random, folder: Path) -> None:
    from demega_jax.config import Config
    from demega_jax.config.load import flat_keys, override, parse_overrides

    keys = sorted(flat_keys())
    words = [f"{rng.choice([rng.choice(keys), any_text(rng)])}={any_text(rng)}" for _ in range(rng.randint(1, 3))]
    override(Config(), parse_overrides(words), "command line")


def any_value(rng: Random) -> object:
    """A value that an HDF5 attribute can have: any type, and ranks 0 to 3."""
    shape = rng.choice([(), (), (1,), (0,), (3,), (2, 2), (1, 1, 1), (39,)])
    dtype = rng.choice(["i1", "i8", "u8", "f2", "f4", "f8", "?", "S3", "c8", "vlen text", "text", "compound", "empty"])
    if dtype == "empty":
        return h5py.Empty(rng.choice(["f4", "i8", "S4"]))
    if dtype == "text":
        return any_text(rng).replace("\0", "").encode(errors="replace")
    if dtype == "vlen text":
        values = [any_text(rng).replace("\0", "").encode(errors="replace") for _ in range(int(np.prod(shape)))]
        return np.array(values, object).reshape(shape) if shape else np.bytes_(b"x")
    if dtype == "compound":
        return np.zeros(shape, [("a", "i4"), ("b", "f4")])
    bits = bytes(rng.randrange(256) for _ in range(int(np.prod(shape)) * np.dtype(dtype).itemsize))
    if dtype == "?":
        bits = bytes(byte & 1 for byte in bits)
    return np.frombuffer(bits, dtype).reshape(shape)


ATTRIBUTES = (
    "n_groups",
    "n_channels",
    "n_timepoints",
    "grouped_samples",
    "classes",
    "reference_macro_f1",
    "simulated",
    "shuffle",
    "recordings",
    "created_time",
    "tmin",
    "event_rows",
    "event_label",
)


def grouped_file(rng: Random, folder: Path) -> None:
    """Attributes of every type and shape, and datasets of other types, ranks and lengths."""
    from demega_jax.data.grouped import open_grouped
    from demega_jax.data.inspect.grouped import inspect_grouped

    path = folder / "grouped_5" / "train_grouped.h5"
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    with h5py.File(path, "w") as file:
        rows = rng.choice([1, 2, 5])
        whole = {
            "data": np.ones((rows, 2, 3), np.float32),
            "labels": np.zeros(rows, np.int64),
            "group_indices": np.zeros((rows, 5), np.int32),
        }
        for name, value in whole.items():
            if rng.random() < 0.1:
                continue
            other = any_value(rng) if rng.random() < 0.25 else value
            with contextlib.suppress(TypeError):  # h5py cannot write it
                file[name] = other
        if rng.random() < 0.2 and "row_crc32" not in file:
            with contextlib.suppress(TypeError):
                file["row_crc32"] = any_value(rng)
        for name in rng.sample(ATTRIBUTES, rng.randint(0, 4)):
            with contextlib.suppress(TypeError):
                file.attrs[name] = any_value(rng)
        if "row_crc32" in file and rng.random() < 0.5:
            with contextlib.suppress(TypeError):
                file["row_crc32"].attrs[rng.choice(["labels", "facts", "group_indices"])] = any_value(rng)
    report = inspect_grouped(path)
    if report.problems:
        raise report.problems[0]
    split = open_grouped(path)
    split.reader().read(np.arange(split.rows))


def recording(rng: Random, folder: Path) -> None:
    """A session run with attributes and data of every type and shape."""
    from demega_jax.data.recordings.runs import find_recordings

    root, name = folder / "tree", "sub-0_ses-1_task-Sherlock1_run-1"
    for place in ("serialised", "events"):
        (root / "Sherlock1" / "derivatives" / place).mkdir(parents=True, exist_ok=True)
    table = "kind\tsegment\ttimemeg\nphoneme\taa_B\t0.01\n"
    (root / "Sherlock1" / "derivatives" / "events" / f"{name}_events.tsv").write_text(table)
    path = root / "Sherlock1" / "derivatives" / "serialised" / f"{name}_proc-x_meg.h5"
    path.unlink(missing_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs["sample_frequency"] = 250.0
        with contextlib.suppress(TypeError):
            file["data"] = any_value(rng) if rng.random() < 0.4 else np.ones((2, 50), np.float32)
        with contextlib.suppress(TypeError):
            file.attrs[rng.choice(["sample_frequency", "simulated", "seed"])] = any_value(rng)
    for found in find_recordings(root):
        found.read()


def manifest(rng: Random, folder: Path) -> None:
    """A manifest with other values, and one with other bytes."""
    from demega_jax.data.shards.reader import open_shards

    shards = folder / "shards" / "grouped_5"
    if not shards.exists():
        make_shards(folder)
    path = shards / "manifest.json"
    whole = path.read_bytes()
    try:
        if rng.random() < 0.5:
            path.write_bytes(spoiled(rng, whole))
        else:
            content = json.loads(whole)
            if rng.random() < 0.7:  # as in an earlier version: what is changed is not seen by its seal
                content.pop("manifest_crc32", None)
            path.write_text(json.dumps(changed(rng, content)))
        split = open_shards(shards, rng.choice(["train", "validation", "test"]), verify=rng.random() < 0.5)
        split.reader().read(np.arange(split.rows))
    finally:
        path.write_bytes(whole)


def shard(rng: Random, folder: Path) -> None:
    """A shard with other bytes, of which only the size is compared."""
    from demega_jax.data.shards.reader import open_shards

    shards = folder / "shards" / "grouped_5"
    if not shards.exists():
        make_shards(folder)
    path = shards / "train" / "shard-00000.h5"
    whole = path.read_bytes()
    turned = bytearray(whole)
    for _ in range(rng.randint(1, 40)):
        at = rng.randrange(min(len(turned), rng.choice([200, 2000, len(turned)])))
        turned[at] = rng.randrange(256)
    path.unlink()
    path.write_bytes(turned)
    try:
        split = open_shards(shards, "train", verify=False)
        split.reader().read(np.arange(split.rows))
    finally:
        path.unlink()
        path.write_bytes(whole)


def make_shards(folder: Path) -> None:
    """Shards of a little data."""
    from demega_jax.data.shards.plan import ShardSettings
    from demega_jax.data.shards.writer import write_shards
    from demega_jax.data.simulate.grouped import simulate_grouped

    assert ShardSettings
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        simulate_grouped(folder / "data", levels=[5], groups=16, sensors=2, time_points=3, seed=1)
        write_shards(folder / "data", folder / "shards", levels=[5])


def changed(rng: Random, value: object) -> object:
    """A value of JSON in which one place holds something else."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        out = {name: each for name, each in value.items() if name != key or rng.random() < 0.9}
        return out | {key: changed(rng, value[key])} if key in out else out
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        return [changed(rng, each) if i == place else each for i, each in enumerate(value)]
    return rng.choice(
        [None, -1, 0, 1, 2**70, 1.5, True, "", "../x", "/dev/zero", [], {}, [[]], "a\0b", 10**9, any_text(rng)]
    )


def events(rng: Random, folder: Path) -> None:
    """A table of events with odd cells, columns and lines."""
    from demega_jax.data.recordings.events import read_events

    columns = ["idx", "kind", "segment", "timemeg", "duration"]
    rng.shuffle(columns)
    columns = columns[: rng.randint(2, 5)]
    lines = ["\t".join(columns)]
    for number in range(rng.randrange(6)):
        cells = {
            "idx": str(number),
            "kind": "phoneme",
            "segment": "aa_B",
            "timemeg": str(number * 0.3),
            "duration": "0.1",
        }
        row = [any_text(rng) if rng.random() < 0.1 else cells[name] for name in columns]
        lines.append("\t".join(row[: rng.randint(0, len(row))] if rng.random() < 0.1 else row))
    content = "\n".join(lines).encode(errors="surrogateescape" if rng.random() < 0.5 else "replace")
    path = folder / "sub-0_ses-1_task-Sherlock1_run-1_events.tsv"
    path.write_bytes(spoiled(rng, content) if rng.random() < 0.5 else content)
    read_events(path)


def predictions(rng: Random, folder: Path) -> None:
    """A submission with odd cells and lines."""
    from demega_jax.evaluation.submission import HEADER, check_submission

    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(HEADER)
    for number in range(3):
        cells = [str(number), *(["1"] + ["0"] * 38)]
        for _ in range(rng.choice([0, 0, 1, 3])):
            cells[rng.randrange(len(cells))] = any_text(rng)
        table.writerow(cells)
    content = out.getvalue().encode(errors="surrogateescape")
    path = folder / "submission.csv"
    path.write_bytes(spoiled(rng, content) if rng.random() < 0.5 else content)
    check_submission(path, rows=3)


def torch_checkpoint(rng: Random, folder: Path) -> None:
    """A Lightning checkpoint and a safetensors file with other bytes. Without torch the first is always refused."""
    from safetensors.numpy import save

    from demega_jax.interop.torch_file import read

    if rng.random() < 0.3:
        path = folder / "odd.ckpt"
        whole = (ROOT / "tests" / "golden" / "lightning_tiny.ckpt").read_bytes()
        content = bytearray(whole)
        for _ in range(rng.randint(1, 20)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content[: rng.choice([len(content), rng.randrange(len(content))])])
    else:
        path = folder / "odd.safetensors"
        described = {"format": 1, "config": {}, "step": 3, "epoch": 1.0, "class_counts": [1, 2]}
        meta = {"demega_jax": json.dumps(changed(rng, described)) if rng.random() < 0.8 else any_text(rng)}
        meta = {name: text.encode(errors="replace").decode() for name, text in meta.items()}
        content = save({"a": np.zeros((2, 3), np.float32)}, meta)
        path.write_bytes(spoiled(rng, content) if rng.random() < 0.5 else content)
    read(path)


def options(rng: Random, folder: Path) -> None:
    """The words of a command: any of its options, with any value. Nothing that it could do is there to be done.

    UserError: the command ended with one line and exit status 2.
    """
    from demega_jax.cli import COMMANDS, main

    name = rng.choice(COMMANDS)
    words = [name, *command_words(rng, name)]
    if name in ("benchmark", "doctor"):
        words += ["--json", str(folder)]  # a folder, where nothing can be written: it is refused before anything runs
    out, told = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(told):
            status = main(words)
    except SystemExit as end:
        status = int(end.code or 0)
    lines = [line for line in told.getvalue().splitlines() if line.startswith("error: ")]
    if status == 0 and ("--help" in words or "-h" in words):
        return
    assert status == 2 and len(lines) == 1, (words, status, told.getvalue()[-500:])
    raise UserError("options", lines[0], "", "")


def command_words(rng: Random, name: str) -> list[str]:
    import typer.main

    from demega_jax.cli import build_app

    command = typer.main.get_command(build_app()).commands[name]  # type: ignore[attr-defined]
    words: list[str] = []
    named = [each for each in command.params if each.param_type_name == "option"]
    for parameter in rng.sample(named, rng.randint(0, min(4, len(named)))):
        flag = rng.choice(list(parameter.opts))
        words.append(flag)
        if not parameter.is_flag and rng.random() < 0.95:
            words.append(any_text(rng))
    for _ in range(rng.randint(0, 3)):
        words.insert(
            rng.randrange(len(words) + 1), rng.choice(["/dev/null/x", "no-such", any_text(rng), "train.seed=1"])
        )
    return words


KINDS: dict[str, Callable[[Random, Path], None]] = {
    "configuration": config_file,
    "overrides": overrides,
    "grouped file": grouped_file,
    "recording": recording,
    "manifest": manifest,
    "shard": shard,
    "events": events,
    "predictions": predictions,
    "checkpoint of torch": torch_checkpoint,
    "options": options,
}
