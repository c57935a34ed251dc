"""Recordings and their events: session runs, windows, statistics, splits by session run, grouping."""
