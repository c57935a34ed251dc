"""Losses on the global batch."""
