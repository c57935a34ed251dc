"""Run the commands whose output the pages show, and write what they print between their markers.

A marked block looks as follows. Everything between its two markers is written here, and the second marker holds a
checksum of it, so that a test finds what was changed by hand.

    <!-- output of: make demo; lines from "phoneme rows" to "no brain data" -->
    Measured on 2 cores of AMD EPYC with Python 3.13 and jax 0.12.0, 2026-11-25, in 2 min 26 s:

    (the lines, as a block of code)
    <!-- end of output, checksum 0123456789ab -->

`make readme` runs this file: some minutes on 2 cores.
"""

import datetime
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# In the order in which a reader goes through them.
PAGES = (
    *("README.md", "docs/demo.md", "docs/tutorial.md", "docs/train.md", "docs/data.md", "docs/predict.md"),
    *("docs/models.md", "docs/differences.md", "docs/benchmark.md", "docs/howto.md", "docs/troubleshooting.md"),
    *("docs/format.md", "docs/reference.md"),
)
BLOCK = re.compile(
    r'<!-- output of: (?P<command>[^;]+); lines from "(?P<first>[^"]+)" to "(?P<last>[^"]+)" -->\n'
    r"(?P<text>.*?)"
    r"<!-- end of output, checksum (?P<checksum>[0-9a-f]+) -->",
    re.DOTALL,
)
# Pictures that a command draws, and where the pages show them.
PICTURES = {"make demo": {"demo/run/report/training_curve.png": "benchmarks/results/demo_training_curve.png"}}


@dataclass(frozen=True)
class Block:
    """An output that a page shows: the command, the lines of its output that bound it, and what stands there."""

    command: str
    first: str
    last: str
    text: str
    checksum: str

    @property
    def lines(self) -> list[str]:
        """The lines of output alone, without the heading and the fences."""
        return self.text.partition("```\n")[2].rpartition("```\n")[0].splitlines()


def blocks(page: str) -> list[Block]:
    """The marked blocks of a page, in its order."""
    return [Block(**found.groupdict()) for found in BLOCK.finditer(page)]


def checksum(text: str) -> str:
    """The first 12 hexadecimal digits of the text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def machine() -> str:
    """The hardware and the versions that the numbers of a run on a CPU depend on, in words."""
    python = ".".join(platform.python_version_tuple()[:2])
    return f"{_cores()} cores of {_processor()} with Python {python} and jax {version('jax')}"


def environment(cache: str) -> dict[str, str]:
    """The variables under which commands run: on the CPU, 80 columns, with compiled programs in the folder `cache`."""
    ours = {"JAX_PLATFORMS": "cpu", "COLUMNS": "80", "JAX_COMPILATION_CACHE_DIR": cache}
    return {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "NPROC")} | ours


def lines_between(output: str, first: str, last: str) -> list[str]:
    """The lines from the one that begins with `first` to the one that begins with `last`, both included."""
    lines = [line.rstrip() for line in output.splitlines()]
    begin = next(number for number, line in enumerate(lines) if line.strip().startswith(first))
    end = next(number for number, line in enumerate(lines) if number >= begin and line.strip().startswith(last))
    return [line for line in lines[begin : end + 1] if line]


def run(command: str) -> tuple[str, float]:
    """What a command prints when nothing was compiled before it, and the seconds that it takes."""
    print(f"running: {command}", flush=True)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            shlex.split(command), cwd=ROOT, env=environment(cache), stdout=subprocess.PIPE, text=True, check=False
        )
    if done.returncode != 0:
        sys.exit(f"error: {command} ended with status {done.returncode}; the pages were left as they are")
    return done.stdout, time.perf_counter() - start


def written(block: Block, output: str, seconds: float) -> str:
    """The block with its markers, as it goes into the page."""
    minutes, rest = divmod(round(seconds), 60)
    took = f"{minutes} min {rest} s" if minutes else f"{rest} s"
    heading = f"Measured on {machine()}, {datetime.date.today().isoformat()}, in {took}:"
    shown = "\n".join(lines_between(output, block.first, block.last))
    text = f"{heading}\n\n```\n{shown}\n```\n"
    return (
        f'<!-- output of: {block.command}; lines from "{block.first}" to "{block.last}" -->\n'
        f"{text}<!-- end of output, checksum {checksum(text)} -->"
    )


def main() -> None:
    """Run every command once, then replace all blocks and pictures together."""
    pages = {ROOT / name: (ROOT / name).read_text() for name in PAGES}
    commands = dict.fromkeys(block.command for text in pages.values() for block in blocks(text))
    results = {command: run(command) for command in commands}
    for page, text in pages.items():
        new = BLOCK.sub(lambda found: written(Block(**found.groupdict()), *results[found["command"]]), text)
        if new != text:
            aside = page.with_name(f"{page.name}.part")
            aside.write_text(new)
            aside.replace(page)
    for command in results:
        for drawn, shown in PICTURES.get(command, {}).items():
            shutil.copyfile(ROOT / drawn, ROOT / shown)
    print(f"wrote the output of {', '.join(results)} into the pages")


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _processor() -> str:
    """The processor's name as Linux gives it, or else as Python does."""
    described = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.*)$", described.read_text(), re.MULTILINE) if described.exists() else None
    return found.group(1).strip() if found else platform.processor()


if __name__ == "__main__":
    main()
