"""Joining the other processes: jax.distributed, with a service that outlives process 0."""

import contextlib
import os
import sys
from collections.abc import Iterator

import jax
from jax._src import distributed  # jax has no public name for its coordination client

from demega_jax.training.service import Service
from demega_jax.training.together import LOST_AFTER, Together

JOIN = 120  # seconds for jax to connect processes that have all answered
HEARTBEAT = 100  # seconds after which jax itself ends everything; `together` is earlier, and says it in one line


def start_service(coordinator: str, processes: int) -> Service:
    """Start the service at which all meet, in process 0. UserError: it cannot listen there."""
    return Service(f"[::]:{coordinator.rpartition(':')[2]}", processes, HEARTBEAT, LOST_AFTER + 10)


def join(coordinator: str, processes: int, number: int, local: int | None, service: Service | None) -> Together:
    """Meet the other processes, all of which are known to be there. It is called before jax has looked for devices.

    local: the only GPU that this process takes; None: all.  service: of process 0.
    """
    # jax would take SIGTERM for itself. `SharedSignals` agrees on a step without it.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    with _starting(service):
        jax.distributed.initialize(
            coordinator,
            processes,
            number,
            local_device_ids=local,
            initialization_timeout=JOIN,
            heartbeat_timeout_seconds=HEARTBEAT,
            cluster_detection_method="deactivate",
        )
    client = distributed.global_state.client
    assert client is not None, "it was made by initialize"
    return Together(client, number, processes)


@contextlib.contextmanager
def _starting(service: Service | None) -> Iterator[None]:
    """Let jax take this service in place of one of its own, which would end together with process 0."""
    library = distributed._jax
    original = library.get_distributed_runtime_service
    library.get_distributed_runtime_service = lambda *arguments, **settings: service
    try:
        yield
    finally:
        library.get_distributed_runtime_service = original


@contextlib.contextmanager
def only_our_output() -> Iterator[None]:
    """Within this block only Python writes to stdout: what the library of CPU collectives prints there is not shown."""
    sys.stdout.flush()
    kept, shown = os.dup(1), sys.stdout
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)
    sys.stdout = os.fdopen(os.dup(kept), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    try:
        yield
    finally:
        sys.stdout.close()
        sys.stdout = shown
        os.dup2(kept, 1)
        os.close(kept)


def leave() -> None:
    """Leave together with the others, at the end of a training run."""
    jax.distributed.shutdown()


def leave_alone() -> None:
    """Let the service of process 0 end shortly after it. Nobody waits for the others, which have been told."""
    service = distributed.global_state.service
    if service is not None:
        service.end_soon()
