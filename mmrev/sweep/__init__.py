"""A matrix of trainings and tests, as ``tools/sweep.py`` runs it.

A suite (`suite`) becomes cells (`cells`), of which `state` tells what is left to do; a
`job` does it for one cell, locally or on Slurm (`executors`), `sweep` sees to all of
them, and `view` shows how they are.
"""

import os

# Of submitit, which reads it when it is imported, and hands it on to its jobs. On
# SIGUSR1 the tools save; SIGUSR2, its own choice, would end them.
os.environ.setdefault("SUBMITIT_PREEMPT_SIGNAL", "USR1")
