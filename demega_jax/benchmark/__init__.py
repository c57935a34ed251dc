"""Times of a training step: measured on this machine, or modelled for devices that are not here.

Python gives a package the name of its folder, so this one stands for the function `demega_jax.benchmark` too, which is
in `api/benchmark.py`: it can be called.
"""

import importlib
import sys
import types


class _Called(types.ModuleType):
    """A module that is called as the function of its name."""

    def __call__(self, *args: object, **options: object) -> object:
        return importlib.import_module("demega_jax.api.benchmark").benchmark(*args, **options)


sys.modules[__name__].__class__ = _Called
