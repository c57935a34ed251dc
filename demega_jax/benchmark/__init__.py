"""What `demega-jax benchmark` and the scripts in benchmarks/ share: measuring a training step, and what it could be."""
