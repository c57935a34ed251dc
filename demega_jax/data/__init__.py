"""Data: recordings, grouped files, shards, splits and feeds; `open.py` opens all of them."""
