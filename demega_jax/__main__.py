"""`python -m demega_jax`: the same as `demega-jax`."""

import sys

from demega_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
