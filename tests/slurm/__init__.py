"""A real SLURM on this machine, and training runs in its jobs: Debian's packages slurm-wlm and munge, as root.

cluster: starts and ends it.  test_slurm: what is done there.
"""
