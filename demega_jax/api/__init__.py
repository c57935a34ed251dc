"""The functions that Python calls (`demega_jax.train` and others), and that the commands of the same names call."""
