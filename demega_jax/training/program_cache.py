"""Compiled programs that are kept on disk, so that the next process need not compile them again."""

import os
import warnings

import jax

from demega_jax.files import cache_folder


def keep_programs() -> None:
    """Keep compiled programs in the user's cache folder, unless the environment or the program says where.

    JAX_COMPILATION_CACHE_DIR names another folder; if it is empty, or if the user has no home, nothing is kept.
    """
    folder = cache_folder("compiled")
    chosen = "JAX_COMPILATION_CACHE_DIR" in os.environ or jax.config.jax_compilation_cache_dir is not None
    if folder is not None and not chosen:
        jax.config.update("jax_compilation_cache_dir", str(folder))
    # Where the cache cannot be read or written, programs are compiled again, and nothing else is lost.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")
