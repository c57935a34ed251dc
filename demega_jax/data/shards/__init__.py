"""Shards: splits that are permuted, normalised and divided into files, for fast reading in blocks."""
