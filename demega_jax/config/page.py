"""The page of every configuration key: `python -m demega_jax.config.page > configs/README.md`."""

from demega_jax.config.kinds import in_words, shown
from demega_jax.config.load import own_keys, sections

HEAD = """# Configuration keys

This page is made from the code by `make config-page`. A configuration is a YAML file of the sections below. A key that
is left out has its default. On the command line a key is written `section.key=value`. An unknown key, or a value that
the key cannot take, ends the command with exit status 2.

"""


def page() -> str:
    """The page, in Markdown."""
    parts = [HEAD]
    for name, section in sections().items():
        parts.append(f"## {name}\n\n{' '.join((section.__doc__ or '').split())}\n\n")
        parts.append("| key | value | default | meaning |\n| --- | --- | --- | --- |\n")
        for key, entry in own_keys(section).items():
            kind, meaning = in_words(entry.annotation, entry.metadata), " ".join((entry.description or "").split())
            parts.append(f"| `{key}` | {kind} | `{shown(entry.default)}` | {meaning} |\n")
        parts.append("\n")
    return "".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    print(page(), end="")
