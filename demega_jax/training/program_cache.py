"""Compiled programs that are kept on disk, so that the next process need not compile them again."""

import os
import warnings

import jax

from demega_jax.files import cache_folder


def keep_programs() -> None:
    """Keep compiled programs in the user's cache folder, unless the environment or the program says where.

    JAX_COMPILATION_CACHE_DIR names another folder; if it is empty, nothing is kept.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder("compiled")))
    # Where the cache cannot be read or written, programs are compiled again, and nothing else is lost.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")
