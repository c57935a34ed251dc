"""Optimisation, steps, devices, checkpoints and the loop."""
