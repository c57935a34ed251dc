"""Feeds: training batches on the devices, a pure function of (seed, step)."""
