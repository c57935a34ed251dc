"""The folders that training writes into, the cache of compiled programs, and the data."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from demega_jax.benchmark.doctor.finding import Finding, of_error
from demega_jax.data.folder import find_levels, has_recordings
from demega_jax.errors import UserError, counted, listed
from demega_jax.files import NO_LOCKS, cache_folder, format_bytes, free_space, visible

NEEDED = 2**30  # free bytes under which a training run may not end: two checkpoints, the log and the pictures


def check_writing() -> Iterator[Finding]:
    """Whether runs can be written below this folder, and temporary files where the system wants them."""
    here, temporary = Path.cwd(), Path(tempfile.gettempdir())
    for name, folder in {"runs": here, "temporary": temporary}.items():
        try:
            locks = _tried(folder)
        except OSError as error:
            found = f"nothing can be written into {folder} ({error.strerror})"
            way_out = "Choose another folder with --run." if name == "runs" else "Set TMPDIR to another folder."
            yield Finding(name, "warning", found, way_out)
            continue
        free = free_space(folder)
        line = f"{folder}: {format_bytes(free)} free"
        if not locks and name == "runs":
            way_out = "See to it that no two processes train in one run folder, or choose another disk with --run."
            yield Finding(name, "warning", f"{line}, on a file system without locks", way_out)
        elif free < NEEDED:
            yield Finding(name, "warning", line, "Free space, or choose another disk.")
        else:
            yield Finding(name, "ok", line)


def _tried(folder: Path) -> bool:
    """Write, rename and lock a file that is removed again; returns whether it could be locked. OSError: not written."""
    with tempfile.TemporaryDirectory(prefix=".demega-jax-doctor-", dir=folder) as place:
        first, second = Path(place) / "first", Path(place) / "second"
        first.write_bytes(b"content")
        first.replace(second)
        with second.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                return False
    return True


def check_cache() -> Iterator[Finding]:
    """Whether compiled programs can be kept for the next command."""
    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    folder = Path(chosen) if chosen else cache_folder("compiled")
    if folder is None or chosen == "":
        why = "JAX_COMPILATION_CACHE_DIR is empty" if chosen == "" else "this user has no home folder"
        way_out = "Set JAX_COMPILATION_CACHE_DIR to a folder, and programs are compiled once."
        yield Finding("cache", "note", f"compiled programs are not kept, as {why}", way_out)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _tried(folder)
    except OSError as error:
        found = f"compiled programs cannot be kept in {folder} ({error.strerror}), so every command compiles them again"
        yield Finding("cache", "warning", found, "Set JAX_COMPILATION_CACHE_DIR to a folder that can be written.")
        return
    sizes = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # another process has removed it
            sizes.append(path.stat().st_size)
    line = (
        f"{folder}: {counted(len(sizes), 'file')}, {format_bytes(sum(sizes))}, {format_bytes(free_space(folder))} free"
    )
    yield Finding("cache", "ok", line)


def check_data(data: Path | None) -> Iterator[Finding]:
    """What a data folder holds. data: None: none is asked for, and `data` is looked at if it is there."""
    folder = Path("data") if data is None else data
    if data is None and not folder.is_dir():
        way_out = "Name a folder with --data DIR, or make one: `demega-jax simulate data --level 100 --groups 2000`."
        yield Finding("data", "note", "there is no folder named data here", way_out)
        return
    try:
        levels, recorded = sorted(find_levels(folder)), has_recordings(folder)
        names = sorted(path.name for path in visible(folder))
    except OSError as error:
        yield of_error("data", UserError(folder, f"it cannot be read ({error.strerror})", "", "correct the path"))
        return
    kinds = [f"grouping level {', '.join(map(str, levels))}"] * bool(levels) + ["recordings"] * recorded
    if kinds:
        yield Finding("data", "ok", f"{folder}: {' and '.join(kinds)}; `demega-jax inspect {folder}` reads them")
        return
    found = f"{folder}: no grouped_K folder and no recordings (it holds {listed(names) or 'nothing'})"
    yield Finding("data", "note" if data is None else "broken", found, "Give the folder that holds grouped_K.")
