"""Training runs of thousands of steps, which must end as they began: no more memory, no more open files, no slower.

watched: the process of a training run, which measures itself.  soak: the runs, and what they are held to.
"""
