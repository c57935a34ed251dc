"""Whether this machine and its installation can train: what was looked at, what was found, and what to do about it."""
