"""Build the documentation into a folder, and fail on any warning: `make docs`, which installs the extra `docs`.

    python docs/build.py OUT

The pages lie in the whole repository, and link to each other as they lie there. So they are copied to a folder, with
the files that they link to, and mkdocs builds that one.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    *("*.md", "LICENSE", "docs/*.md", "docs/images/*", "configs/*", "benchmarks/*.md", "benchmarks/results/*"),
    *("examples/*.ipynb", "examples/slurm/*"),
)


def glossary(contributing: str) -> str:
    """The page of words: the section of CONTRIBUTING.md, which is their one home."""
    found = re.search(r"^## Words\n(.*?)^## ", contributing, re.MULTILINE | re.DOTALL)
    assert found, "CONTRIBUTING.md has no section `Words`"
    return f"# Words\n{found[1]}"


def copy_pages(to: Path) -> None:
    """Copy every page, and what pages show or link to, as they lie in the repository."""
    for pattern in PAGES:
        for file in ROOT.glob(pattern):
            target = to / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    (to / "docs" / "glossary.md").write_text(glossary((ROOT / "CONTRIBUTING.md").read_text()))


def main() -> int:
    """Build; returns the exit status."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory() as folder:
        copy_pages(Path(folder) / "pages")
        shutil.copyfile(ROOT / "docs" / "mkdocs.yml", Path(folder) / "mkdocs.yml")
        words = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(out)]
        return subprocess.run(words, cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
