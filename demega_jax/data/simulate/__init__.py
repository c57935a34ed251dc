"""Simulated grouped files and recordings whose best possible score is known."""
