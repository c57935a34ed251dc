"""`demega-jax group` beside the published writer of grouped files, in turn on the same recordings.

    demega-jax simulate recordings --recordings --minutes 20
    python benchmarks/group_against_original.py recordings --original DIR --pnpl DIR --torch-python PYTHON --level 5 20

Both DIR are a user's own checkouts, imported unmodified: of the published system (the folder that holds `scripts`) and
of its data library (the folder that holds `datasets`). PYTHON is an interpreter that has torch, h5py, pandas, pyyaml,
mne, mne-bids, huggingface-hub and requests. Nothing is downloaded.

A measurement is a new process that writes all three splits, from its start to its end, from and to warm files; several
levels are measured one by one, then together. `without start` leaves out what starting and importing alone take. The
original takes a recording's statistics from its attributes, where it has them; ours measures them (`ours`: nothing is
remembered yet) or has remembered them (`ours, again`). Files are compared, and the original's loaders read ours.
"""

import argparse
import hashlib
import importlib
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import h5py
import numpy as np

SPLITS = ("train", "validation", "test")
LOADED = {"train": SPLITS[:1], "validation": SPLITS[1:], "test": SPLITS[2:]}  # what the original's loaders hold
OUR_IMPORTS = "import demega_jax.cli; from demega_jax.data.recordings import grouping, splits, statistics"


def import_original(arguments: argparse.Namespace) -> Any:
    """The script that makes grouped files. The data library goes by its name, whatever its folder is called."""
    spec = importlib.util.spec_from_file_location("pnpl", Path(arguments.pnpl) / "__init__.py")
    assert spec is not None and spec.loader is not None
    sys.modules["pnpl"] = module = importlib.util.module_from_spec(spec)  # a package: its file is an __init__.py
    spec.loader.exec_module(module)
    sys.path.insert(0, arguments.original)
    return importlib.import_module("scripts.preprocess_data.get_average_group")


def original_group(arguments: argparse.Namespace) -> None:
    """What the script does for all splits, without a look at the hub; and which phonemes its numbers stand for."""
    script = import_original(arguments)
    dataset, names = script.LibriBrainPhoneme, {}

    def offline(**options: Any) -> Any:
        made = dataset(download=False, **options)
        names[options["partition"]] = list(made.phonemes_sorted)
        return made

    script.LibriBrainPhoneme = offline
    for level in arguments.level:
        folder = arguments.out / f"grouped_{level}"
        data = {"data_path": str(arguments.recordings), "tmin": 0.0, "tmax": 0.5}
        data |= {"grouped_samples": level, "preprocessed_dir": str(folder)}
        mean = std = None
        for split in SPLITS:
            mean, std, _ = script.preprocess_partition({"data": data}, split, mean, std)
        (folder / "names.json").write_text(json.dumps(names))


def original_load(arguments: argparse.Namespace) -> None:
    """Digests of what the loaders of the original's training give for a folder grouped_K; train without its shuffle."""
    import_original(arguments)
    loaders = importlib.import_module("scripts.preprocess_data.get_preprocess_dataloader")
    found = {}
    for memory in (True, False):
        training = {"batch_size": 64, "num_workers": 0, "use_weighted_sampling": False}
        config = {"data": {"load_to_memory": memory}, "training": training}
        made = loaders.create_dataloaders_preprocessed(config, arguments.out, "config.yaml")
        for name, loader in zip(LOADED, made, strict=True):
            batches = loaders.DataLoader(loader.dataset, 64) if name == "train" else loader
            groups = [g for part in getattr(loader.dataset, "datasets", [loader.dataset]) for g in part.groups]
            found[f"{name}, in memory: {memory}"] = digest(((x.numpy(), y.numpy()) for x, y in batches), groups)
    (arguments.out / "loaded.json").write_text(json.dumps(found))


def expected_load(folder: Path) -> dict[str, list[object]]:
    """The digests that `original_load` has to find, from the file itself."""
    found: dict[str, list[object]] = {}
    for name, splits in LOADED.items():
        batches, groups = [], []
        for split in splits:
            with h5py.File(folder / f"{split}_grouped.h5") as file:
                batches.append((file["data"][:], file["labels"][:]))
                groups += [group.tolist() for group in file["group_indices"]]
        found |= {f"{name}, in memory: {memory}": digest(batches, groups) for memory in (True, False)}
    return found


def digest(batches: Iterable[tuple[np.ndarray, np.ndarray]], groups: list[list[int]]) -> list[object]:
    """Count, shape and digest of rows with their labels in order, and a digest of the windows of each."""
    rows, shape, total = 0, (0, 0), hashlib.sha256()
    for x, labels in batches:
        rows, shape = rows + len(x), x.shape[1:]
        for row, label in zip(x, labels, strict=True):
            total.update(row.astype("<f4", casting="safe").tobytes() + b"%d;" % label)
    return [rows, list(shape), total.hexdigest(), hashlib.sha256(json.dumps(groups).encode()).hexdigest()]


def compare_files(ours: Path, original: Path) -> dict[str, Any]:
    """How the files of a level differ. Train is shuffled by other generators: there, means of classes are compared."""
    names, report = json.loads((original / "names.json").read_text()), {}
    for split in SPLITS:
        with h5py.File(ours / f"{split}_grouped.h5") as a, h5py.File(original / f"{split}_grouped.h5") as b:
            x, y = ((class_means(f) if split == "train" else f["data"][:]) for f in (a, b))
            own = [name.decode() for name in a.attrs["classes"].tolist()]
            labels = [[of[i] for i in f["labels"]] for f, of in ((a, own), (b, names[split]))]
            windows = [[g.tolist() for g in f["group_indices"]] for f in (a, b)]
            if split == "train":
                windows = [sorted(sum(each, [])) for each in windows]
            gap = float(np.abs(x - y).max()) if x.shape == y.shape else float("inf")
            same = {"labels": labels[0] == labels[1], "windows": windows[0] == windows[1], "data": gap <= 1e-4}
            report[split] = {"groups": list(map(len, labels)), "phonemes": len(names[split]), "gap": gap, "same": same}
    return report


def class_means(file: h5py.File) -> np.ndarray:
    """Mean of all windows of each class that occurs, from the means of groups; the same however they were dealt."""
    sizes = np.array([len(group) for group in file["group_indices"]], np.float64)
    place = np.unique(file["labels"], return_inverse=True)[1]
    total = np.zeros((place.max() + 1, *file["data"].shape[1:]))
    for i, row in enumerate(file["data"][:]):
        total[place[i]] += sizes[i] * row
    return total / np.bincount(place, sizes)[:, None, None]


def layout(path: Path) -> dict[str, str]:
    """Type, shape, chunks and compression of datasets; types of attributes."""
    with h5py.File(path) as file:
        found = {k: f"{d.dtype} {d.shape} chunks {d.chunks} {d.compression}" for k, d in file.items()}
        return found | {f"attribute {k}": f"{np.asarray(v).dtype}" for k, v in file.attrs.items()}


def timed(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Seconds, processor seconds and peak memory (MB; at least that of this process) of a command."""
    with tempfile.TemporaryFile() as log:
        os.sync()  # so that nobody waits for what another wrote,
        time.sleep(3)  # nor gains by memory that another has just let go of: a virtual machine hands that out faster
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise SystemExit(f"{' '.join(command)}\n{log.read().decode()[-2000:]}")
    return {"seconds": seconds, "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_mb": usage.ru_maxrss / 1e3}


def compare(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Let the sides take turns, then compare what they wrote last."""
    side = [arguments.torch_python, __file__, str(arguments.recordings), "--original", arguments.original]
    side += ["--pnpl", arguments.pnpl, "--side"]
    offline = {"PNPL_REMOTE_CONSTANTS_DISABLED": "true", "PNPL_CACHE_DIR": str(folder / "pnpl")}
    group = [sys.executable, "-m", "demega_jax", "group", str(arguments.recordings)]
    measured: dict[str, list[dict[str, float]]] = {}
    levels = [str(level) for level in arguments.level]
    chosen = {"+".join(some): some for some in [[level] for level in levels] + [levels]}
    remembered = {"XDG_CACHE_HOME": str(folder / "cache")}
    timed([*group, str(folder / "first"), "--level", levels[0]], remembered)  # this warms the recordings' files, too
    for turn in range(arguments.repeats):
        starts = [[*side, "group", "--level"], [sys.executable, "-c", OUR_IMPORTS]]
        for who, command in zip(("original", "ours"), starts, strict=True):
            measured.setdefault(f"start, {who}", []).append(timed(command, offline))
        for name, some in chosen.items():
            new, asked = folder / name, ["--level", *some]
            shutil.rmtree(new, ignore_errors=True)
            nothing = {"XDG_CACHE_HOME": str(new / "cache")}
            sides = [("original", [*side, "group", "--out", str(new / "original"), *asked], offline)]
            sides += [("ours", [*group, str(new / "ours"), *asked], nothing)]
            sides += [("ours, again", [*group, str(new / "again"), *asked], remembered)]
            for who, command, environment in sides[turn % 3 :] + sides[: turn % 3]:  # each comes first, once in three
                measured.setdefault(f"{name}, {who}", []).append(timed(command, environment))
    medians = {n: {k: statistics.median(m[k] for m in each) for k in each[0]} for n, each in measured.items()}
    found: dict[str, Any] = {"rates": {}, "levels": {}}
    for level in levels:
        a, b = (folder / level / who / f"grouped_{level}" for who in ("ours", "original"))
        timed([*side, "load", "--out", str(a)], offline)
        loaded, wanted = json.loads((a / "loaded.json").read_text()), expected_load(a)
        x, y = (layout(each / "train_grouped.h5") for each in (a, b))
        each = found["levels"][level] = {"files": compare_files(a, b)}
        each["original_loads_ours"] = {key: loaded.get(key) == wanted[key] for key in wanted}
        each["layout_ours_original"] = {k: [x.get(k), y.get(k)] for k in {**x, **y} if x.get(k) != y.get(k)}
    for name, some in chosen.items():
        groups = sum(f["groups"][0] for level in some for f in found["levels"][level]["files"].values())
        for who in ("original", "ours", "ours, again"):
            seconds = medians[f"{name}, {who}"]["seconds"]
            start = medians[f"start, {who.removesuffix(', again')}"]["seconds"]
            found["rates"][f"{name}, {who}"] = [groups / seconds, groups / (seconds - start)]
    return {**found, "medians": medians, "measured": measured}


def show(found: dict[str, Any]) -> None:
    """Print the rates and what the comparison found."""
    print("level, writer         groups/s  ratio | without start  ratio |       s   cpu s  peak MB")
    for name, (whole, work) in found["rates"].items():
        base, m = found["rates"][name.split(",")[0] + ", original"], found["medians"][name]
        print(
            f"{name:20} {whole:9.0f} {whole / base[0]:6.2f} | {work:13.0f} {work / base[1]:6.2f} | "
            f"{m['seconds']:7.2f} {m['cpu_seconds']:7.2f} {m['peak_mb']:8.0f}"
        )
    print(json.dumps(found["levels"], indent=1))


def main() -> None:
    """Parse the command line; as a side, do its work; else compare. Exit status 1: files differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recordings", type=Path, help="recording tree with the published validation and test runs")
    parser.add_argument("--original", required=True, help="folder that holds scripts and meg_classifier")
    parser.add_argument("--pnpl", required=True, help="folder of the data library, that holds datasets")
    parser.add_argument("--torch-python", default=sys.executable, help="interpreter with torch and what pnpl needs")
    parser.add_argument("--level", type=int, nargs="*", default=[5, 20], metavar="K")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    parser.add_argument("--side", choices=("group", "load"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        {"group": original_group, "load": original_load}[arguments.side](arguments)
        return
    versions = "import h5py.version as v, platform as p; print(p.python_version(), v.version, v.hdf5_version)"
    found: dict[str, Any] = {"date": date.today().isoformat(), "machine": f"{os.cpu_count()} x {platform.machine()}"}
    found["command"] = f"--level {' '.join(map(str, arguments.level))} --repeats {arguments.repeats}"
    pythons = {"ours": sys.executable, "original": arguments.torch_python}
    run = subprocess.check_output
    found["python_h5py_hdf5"] = {w: run([p, "-c", versions], text=True).strip() for w, p in pythons.items()}
    with tempfile.TemporaryDirectory() as folder:
        found |= compare(arguments, Path(folder))
    show(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    for each in found["levels"].values():
        if not all([*each["original_loads_ours"].values(), *(all(f["same"].values()) for f in each["files"].values())]):
            raise SystemExit("files differ, or the original does not read ours")


if __name__ == "__main__":
    main()
