"""Ctrl-C and SIGTERM, in a process that runs nothing but a command: one line, and exit status 130 or 143.

It is imported before everything else, so it imports little itself.
"""

import contextlib
import os
import signal
import sys
from types import FrameType

ENDING = {signal.SIGINT: "interrupted", signal.SIGTERM: "ended by SIGTERM"}
IMPORTING = "<frozen importlib"  # the file of the functions of the interpreter that import a module
H5PY, DISK = f"{os.sep}h5py{os.sep}", os.path.join("data", "hdf5.py")  # where functions of HDF5 are


def answer_signals() -> None:
    """Answer both signals from now on, unless this process ignores them or a program has its own answer."""
    for number in ENDING:
        if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(number, end_in_order)


def end_in_order(number: int, frame: FrameType | None) -> None:
    """Say it, and raise an exception, so that what is half written is removed. A second signal ends it at once.

    Within an import the process ends at once too: compiled code there turns exceptions into others, or loses them.
    """
    if _imports(frame):
        end_at_once(number, frame)
    _tell(number)
    from_now_on_at_once()
    _raise_again_if_lost(number)
    _raise_outside_hdf5(number, frame)


def _raise_outside_hdf5(number: int, frame: FrameType | None) -> None:
    """Raise the exception; a moment later where HDF5 is at work, which would lose it and leave its file half closed."""
    if _within_hdf5(frame):
        _raise_soon(number)
    else:
        raise _ending(number)


def _raise_soon(number: int) -> None:
    signal.signal(signal.SIGALRM, lambda _, frame: _raise_outside_hdf5(number, frame))
    signal.setitimer(signal.ITIMER_REAL, 0.01)


def _ending(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)


def _raise_again_if_lost(number: int) -> None:
    """Python drops what is raised while it removes an object, and so does compiled code that cannot fail.

    What it drops it says to a hook, which sets a clock to raise it again a moment later, as often as that happens.
    """
    others = sys.unraisablehook

    def again(lost: "sys.UnraisableHookArgs") -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt | SystemExit):
            return others(lost)
        _raise_soon(number)

    sys.unraisablehook = again


def end_at_once(number: int, frame: FrameType | None) -> None:
    """Say it, and end the process."""
    _tell(number)
    os._exit(128 + number)


def from_now_on_at_once() -> None:
    """Let both signals end the process at once where `end_in_order` answers them."""
    for number in ENDING:
        if signal.getsignal(number) is end_in_order:
            signal.signal(number, end_at_once)


def _tell(number: int) -> None:
    with contextlib.suppress(OSError):  # nobody can read it
        os.write(2, f"warning: {ENDING[signal.Signals(number)]}\n".encode())


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith(IMPORTING):
            return True
        frame = frame.f_back
    return False


def _within_hdf5(frame: FrameType | None) -> bool:
    """Whether h5py is at work, or writes by the functions of our class `Disk`."""
    while frame is not None:
        code = frame.f_code
        if H5PY in code.co_filename or (code.co_filename.endswith(DISK) and code.co_qualname.startswith("Disk.")):
            return True
        frame = frame.f_back
    return False
