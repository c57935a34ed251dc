"""Recordings and their events: runs, windows, statistics, splits by run, grouping."""
