"""A name without special letters for a folder, for libraries that take a path as a pattern.

orbax looks for the parts of a checkpoint with a pattern that begins with the path of the folder, so that below a folder
named `a[b]` it finds none, and below `a*` also those of other folders. tensorstore takes a `\\` for a `/`.
"""

import tempfile
from pathlib import Path

from demega_jax.errors import UserError

SPECIAL = "*?[\\"


class PlainPath:
    """Gives a folder a second name by a link in a temporary folder, if its own path has special letters."""

    def __init__(self, folder: Path):
        self._folder = folder.absolute()
        self._aside: tempfile.TemporaryDirectory[str] | None = None

    def open(self) -> Path:
        """The folder by a path without special letters. UserError: there is no place for a link."""
        if not _is_special(self._folder):
            return self._folder
        if self._aside is None:
            if _is_special(Path(tempfile.gettempdir()).absolute()):
                came, way_out = f"a path with one of {' '.join(SPECIAL)}", "rename the folder, or set TMPDIR"
                raise UserError(self._folder, came, "a path without them, here or for temporary files", way_out)
            try:
                self._aside = tempfile.TemporaryDirectory(prefix="demega-jax-")
                self._folder.mkdir(parents=True, exist_ok=True)
                Path(self._aside.name, "folder").symlink_to(self._folder)
            except OSError as error:
                came = f"a path with one of {' '.join(SPECIAL)}, for which no link can be made ({error.strerror})"
                raise UserError(self._folder, came, "a path without them", "rename the folder") from None
        return Path(self._aside.name, "folder")

    def named(self, text: str) -> str:
        """A message with the folder's own path instead of that of the link."""
        return text if self._aside is None else text.replace(str(self.open()), str(self._folder))

    def close(self) -> None:
        """Remove the link."""
        if self._aside is not None:
            self._aside.cleanup()
            self._aside = None


def _is_special(path: Path) -> bool:
    return any(letter in str(path) for letter in SPECIAL)
