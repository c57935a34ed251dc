"""Sweeps: every level with several seeds, each model tested at every level."""
