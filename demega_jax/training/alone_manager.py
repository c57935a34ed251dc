"""orbax in one of several processes: only the leader has a run folder, and no other process is waited for."""

from collections.abc import Sequence
from pathlib import Path

import jax
import orbax.checkpoint as ocp


def alone_manager(folder: Path, kept: int, items: Sequence[str]) -> ocp.CheckpointManager:
    """The manager of a checkpoint folder that this process alone writes and reads."""
    folder.mkdir(parents=True, exist_ok=True)
    this = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=this, active_processes={this}, barrier_sync_key_prefix=f"alone{this}"
    )
    options = ocp.CheckpointManagerOptions(max_to_keep=kept, create=False, multiprocessing_options=alone)
    registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
    for item in items:
        if item == "meta":
            json = ocp.JsonCheckpointHandler(multiprocessing_options=alone)
            registry.add(item, ocp.args.JsonSave, json)
            registry.add(item, ocp.args.JsonRestore, json)
        else:
            arrays = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
            registry.add(item, ocp.args.PyTreeSave, arrays)
            registry.add(item, ocp.args.PyTreeRestore, arrays)
    return ocp.CheckpointManager(folder, options=options, handler_registry=registry)
