"""A process that reads data by workers, for the tests of what ends them; they find it by name."""

from __future__ import annotations

from multiprocessing.connection import Connection

from torch.utils.data import DataLoader

from mlp_dense.processes import WorkerStart


def serve(ends: Connection, workers: int) -> None:
    """Read data with workers: send their numbers, then for each message a batch, and end."""
    start = {'worker_init_fn': WorkerStart(None), 'multiprocessing_context': 'fork'}  # as in a training
    loader = DataLoader(range(1000), num_workers=workers, **start)
    batches = iter(loader)
    next(batches), next(batches)  # of both, which have started then
    ends.send([process.pid for process in batches._workers])
    while ends.recv() == 'batch':
        ends.send(next(batches))
    if ends.recv() == 'terminate':
        for process in batches._workers:
            process.terminate()
            process.join()
    ends.send('done')
