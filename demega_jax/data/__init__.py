"""Grouped MEG files, feeds and simulated recordings."""
