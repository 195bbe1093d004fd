"""nnU-Net's helper processes by fork, where nnU-Net would have each of them import everything again.

A training starts two or three, at 8 s each. What OpenMP computes in a forked process waits for ever if the
process had threads before, so that there is one thread.
"""

import multiprocessing

import torch


def fork_in_place_of_spawn():
    """For this process and those that it forks."""
    forking = multiprocessing.get_context("fork")
    multiprocessing.get_context = lambda method=None: forking
    torch.set_num_threads(1)
    torch.set_num_threads = lambda number: None
