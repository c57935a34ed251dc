"""Chapters: what is heard in a session of a task, which several subjects, or several runs, can hear.

A phoneme of a chapter has the same words around it whoever hears it. So a model that was trained on a chapter has seen
what it is asked in validation or test on the same chapter. In other recordings than those of LibriBrain nobody knows
whether two sessions hear the same.
"""

import re
from collections.abc import Mapping, Sequence

from demega_jax.data.recordings.runs import Recording, RunName
from demega_jax.errors import counted, listed, warn

BOOK = re.compile(r"Sherlock[0-9]+")  # the tasks of LibriBrain, each of which is a book


def has_chapters(recordings: Sequence[Recording]) -> bool:
    """Whether the session runs are those of LibriBrain, in which a session of a task is a chapter of a book."""
    return any(BOOK.fullmatch(recording.name.task) for recording in recordings)


def chapter_of(name: RunName) -> str:
    """The chapter of a session run, as a file of splits names it: its task and session, such as `Sherlock1/11`."""
    return f"{name.task}/{name.session}"


def by_chapter(recordings: Sequence[Recording]) -> list[list[Recording]]:
    """The recordings of each chapter, in the order in which chapters and recordings come."""
    found: dict[str, list[Recording]] = {}
    for recording in recordings:
        found.setdefault(chapter_of(recording.name), []).append(recording)
    return list(found.values())


def warn_of_shared(assigned: Mapping[str, Sequence[Recording]]) -> None:
    """Warn of session runs for training whose chapter validation or test hears, and of those of both of these.

    Recordings that are not of LibriBrain pass, as their sessions are not known to be chapters.
    """
    of_books = {split: [r for r in runs if has_chapters([r])] for split, runs in assigned.items()}
    heard = {split: {chapter_of(r.name) for r in runs} for split, runs in of_books.items()}
    for split, others in (("train", ("validation", "test")), ("validation", ("test",))):
        known = {chapter for other in others for chapter in heard.get(other, ())}
        shared = [str(r.name) for r in of_books.get(split, ()) if chapter_of(r.name) in known]
        if shared:
            warn(
                f"{split} has {counted(len(shared), 'session run')} whose chapter is also in {' or '.join(others)}, so "
                f"that scores there are too good: {listed(shared)}; put each chapter into one split with --splits "
                "TABLE (data.regroup.splits), a table with the columns run and split"
            )
