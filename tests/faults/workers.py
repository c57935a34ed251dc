"""Processes that do cases one by one, and that are killed where a case takes too long."""

import multiprocessing
import time
from collections.abc import Callable

LIMIT = 60.0  # seconds for one case
Start = Callable[[int], tuple[Callable[..., None], tuple]]


class Workers:
    """Worker processes that answer numbers of cases. A case that takes too long ends its worker, and another begins.

    start: (number of the worker) -> (the function of a worker process, its arguments after the connection).
    """

    def __init__(self, start: Start, count: int):
        self._what, self._context, self._started = start, multiprocessing.get_context("spawn"), 0
        self.workers = [self._start() for _ in range(count)]

    def _start(self) -> dict:
        target, arguments = self._what(self._started)
        self._started += 1
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=target, args=(theirs, *arguments), daemon=True)
        process.start()
        theirs.close()
        return {"process": process, "pipe": ours, "number": None, "began": time.monotonic()}

    def run(self, numbers: list[int], until: float) -> list[tuple]:
        """(number, *answer) of every case."""
        waiting, results = list(reversed(numbers)), []
        while self.workers and (waiting or any(each["number"] is not None for each in self.workers)):
            for place, each in enumerate(self.workers):
                if each["pipe"].poll(0.005):
                    answer = self._answer(each)
                    if each["number"] is not None:
                        results.append((each["number"], *answer))
                    each["number"] = None
                    if answer[2:3] == ("ended",):
                        self.workers[place] = each = self._start()
                        continue
                    if waiting and time.monotonic() < until:
                        each["number"], each["began"] = waiting.pop(), time.monotonic()
                        each["pipe"].send(each["number"])
                elif each["number"] is not None and time.monotonic() - each["began"] > LIMIT:
                    results.append((each["number"], "", "", "hang", "took too long", LIMIT, 0))
                    each["process"].kill()
                    self.workers[place] = self._start()
            if time.monotonic() >= until:
                waiting = []
        return results

    @staticmethod
    def _answer(each: dict) -> tuple:
        try:
            found = each["pipe"].recv()
        except EOFError:
            each["process"].join()
            return ("", "", "ended", f"the process ended with {each['process'].exitcode}", 0.0, 0)
        return found if isinstance(found, tuple) else ()

    def close(self) -> None:
        for each in self.workers:
            each["process"].kill()
            each["process"].join()
