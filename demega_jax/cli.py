"""The command line. Nothing heavy is imported before a command runs; bad input ends here, on one line."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demega_jax import __version__
from demega_jax.commands import benchmark, download, group, inspect, shard
from demega_jax.errors import NO_SPACE, UserError, warn
from demega_jax.heap import keep_heap, only_cpu

COMPUTING = ("train", "evaluate", "benchmark")  # commands that run the model
DESCRIPTION = "Phoneme classification from magnetoencephalography at accelerator speed."


def build_parser() -> argparse.ArgumentParser:
    """The parser of `demega-jax`."""
    parser = argparse.ArgumentParser(prog="demega-jax", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"demega-jax {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    _add_simulate(commands)
    download.add(commands)
    group.add(commands)
    shard.add(commands)
    _add_train(commands)
    _add_evaluate(commands)
    inspect.add(commands)
    benchmark.add(commands)
    return parser


def _add_simulate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "write simulated grouped files, or recordings, in the format of the published ones"
    command = commands.add_parser("simulate", help=text, description=text)
    command.add_argument("out", type=Path, metavar="OUT", help="folder to write grouped_K, or the recordings, into")
    grouped = command.add_argument_group("grouped files")
    grouped.add_argument("--level", type=int, nargs="+", metavar="K", help="grouping levels")
    grouped.add_argument("--groups", type=int, metavar="N", help="train groups a level (N/8 in the other splits)")
    recordings = command.add_argument_group("recordings")
    recordings.add_argument("--recordings", action="store_true", help="write recordings and their events instead")
    recordings.add_argument("--minutes", type=float, metavar="M", help="minutes of all runs together")
    recordings.add_argument("--runs", type=int, metavar="N", help="runs, validation and test included (default: few)")
    command.add_argument("--sensors", type=int, default=306, metavar="C", help="sensors (default 306)")
    command.add_argument(
        "--time-points", type=int, default=125, metavar="T", help="time points of a phoneme's response (default 125)"
    )
    command.add_argument("--seed", type=int, default=0, metavar="S", help="seed (default 0)")
    command.set_defaults(function=simulate)


def _add_train(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "train a model on grouped files"
    command = commands.add_parser("train", help=text, description=text)
    command.add_argument("config", type=Path, metavar="CONFIG", help="YAML configuration, such as configs/default.yaml")
    command.add_argument("--data", metavar="DIR", help="folder that holds grouped_K")
    command.add_argument("--level", metavar="K", help="grouping level, where there are several; 5,10: both at once")
    command.add_argument("--run", type=Path, metavar="DIR", help="run folder (default runs/{config name}-{time})")
    command.add_argument("--devices", type=int, metavar="N", help="devices (default: all there are)")
    command.add_argument(
        "--parallel", choices=("jit", "pmap"), default="jit", help="how several devices share a step (default jit)"
    )
    start = command.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="go on with the run of --run from its last checkpoint")
    start.add_argument("--init", type=Path, metavar="RUN", help="begin from the parameters of another run")
    command.add_argument("--dry-run", action="store_true", help="print what would be done, and stop")
    command.add_argument("overrides", nargs="*", metavar="section.key=value", help="changes to the configuration")
    command.set_defaults(function=train)


def _add_evaluate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "score a trained run on a whole split"
    command = commands.add_parser("evaluate", help=text, description=text)
    command.add_argument("run", type=Path, metavar="RUN", help="run folder")
    command.add_argument("--data", metavar="DIR", help="folder that holds grouped_K (default: the run's)")
    command.add_argument("--level", metavar="K", help="grouping level (default: the run's); 5,10: both together")
    command.add_argument(
        "--split", choices=("validation", "test"), default="validation", help="split (default validation)"
    )
    command.add_argument(
        "--splits", type=Path, metavar="FILE", help="splits by run of recordings (default: those of the run)"
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="write the scores to a JSON file as well")
    command.set_defaults(function=evaluate)


def simulate(arguments: argparse.Namespace) -> int:
    """`demega-jax simulate`."""
    from demega_jax.commands.simulate import simulate_command

    return simulate_command(arguments)


def train(arguments: argparse.Namespace) -> int:
    """`demega-jax train`."""
    from demega_jax.commands.train import train_command

    return train_command(arguments)


def evaluate(arguments: argparse.Namespace) -> int:
    """`demega-jax evaluate`."""
    from demega_jax.commands.evaluate import evaluate_command

    return evaluate_command(arguments)


def _prepare_environment(arguments: argparse.Namespace) -> None:
    """What jax reads from the environment before it starts."""
    given: Any = getattr(arguments, "devices", None)
    words = given if isinstance(given, list) else [given]  # `benchmark` takes several, and looks at them itself
    devices = max((int(word) for word in words if str(word).isdecimal()), default=1)
    if devices > 1:
        # Virtual CPU devices: collectives wait for each other in a pool that is otherwise as large as the machine,
        # and deadlock on few cores.
        os.environ.setdefault("NPROC", str(max(32, 4 * devices)))
        flag = f"--xla_force_host_platform_device_count={devices}"
        if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
            os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Exit status: 0, or 2 for bad input, or 128 + the signal that ended it."""
    arguments, rest = build_parser().parse_known_args(argv)
    # argparse takes the positionals of a subcommand in one run: overrides after an option come back as unknown.
    overrides = getattr(arguments, "overrides", None)
    if unknown := [text for text in rest if overrides is None or text.startswith("-") or "=" not in text]:
        build_parser().error(f"unrecognized arguments: {' '.join(unknown)}")
    if overrides is not None:
        arguments.overrides = [*overrides, *rest]
    arguments.command_line = ["demega-jax", *(sys.argv[1:] if argv is None else argv)]
    if argv is None and arguments.command in COMPUTING and only_cpu():  # a process of its own
        keep_heap()
    _prepare_environment(arguments)
    try:
        return arguments.function(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing is left to be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        full = UserError(error.filename or "output", "no space left", "room to write in", "free some and run again")
        print(f"error: {full}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        warn("interrupted")
        return 130


if __name__ == "__main__":
    sys.exit(main())
