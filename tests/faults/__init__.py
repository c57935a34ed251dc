"""Commands in real processes that are killed, stopped, or find a full, read-only or turned-back world; then repeated.

server: starts the processes.  trials: what can happen to a training run.  outputs: what can happen to other commands.
campaign: many trials, and their results as a file.
"""
