"""Disentangled attention as one kernel a pass: nothing of [B, H, T, S] leaves it."""
