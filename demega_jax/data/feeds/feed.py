"""What every feed of training batches has in common: it counts steps, and the time its batches took to come."""

from typing import Any, Self


class Feed:
    """Training batches without end, on the devices; `next` gives that of the next step.

    `state` and `restore` know one number: the step whose batch comes next.  device_bytes: kept on each device from step
    to step.
    """

    device_bytes = 0
    steps_per_epoch: int

    def __init__(self) -> None:
        self._next_step, self._waited = 0, 0.0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        raise NotImplementedError

    def take_input_wait(self) -> float:
        """Seconds that `next` took since this was last asked."""
        waited, self._waited = self._waited, 0.0
        return waited

    def state(self) -> dict[str, int]:
        """What `restore` needs to go on with the next batch."""
        return {"next_step": self._next_step}

    def restore(self, state: dict[str, int]) -> None:
        """Go on with the batch of that step."""
        self.close()
        self._next_step = state["next_step"]

    def close(self) -> None:
        """Stop whatever is under way."""
