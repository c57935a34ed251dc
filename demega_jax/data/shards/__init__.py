"""Shards: splits permuted, normalised and cut into files for fast reading in blocks."""
