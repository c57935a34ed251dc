"""Training: optimizer, step, devices, checkpoints and the loop."""
