"""The building of dataloaders, whose samples do not depend on the workers and whose broken files are named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.error import URLError

from mmengine.dataset import Compose
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mlp_dense.datasets.coco import complete_coco
from mlp_dense.datasets.images import CheckedPipeline
from mlp_dense.datasets.labels import watch_labels
from mlp_dense.datasets.seeding import seed_samples
from mlp_dense.engine.checks import check_length, innermost
from mlp_dense.errors import UserError
from mlp_dense.processes import WorkerStart


def build_dataloader(dataloader: Any, seed: int | None = None, diff_rank_seed: bool = False) -> DataLoader:
    """Build a dataloader as mmengine's runner does, whose faults are told in one line; see there for the arguments.

    Raises:
        UserError: the dataset has no image, or fewer than the loader needs, or cannot be fetched.
    """
    if isinstance(dataloader, Mapping):
        complete_coco(*innermost(dataloader['dataset']))
    try:
        loader = Runner.build_dataloader(dataloader, seed=seed, diff_rank_seed=diff_rank_seed)
    except URLError as error:
        fault = f'the data cannot be fetched ({error.reason}); fetch them on a machine with a connection'
        raise UserError(f'{fault}, and set download=False in their dataset') from error
    except ValueError as error:
        if 'need at least one array to concatenate' not in str(error):
            raise
        dataset = next(innermost(dataloader['dataset']))
        folders = ', '.join(dataset.get('data_prefix', {}).values())
        raise UserError(f'{dataset.get("data_root")} holds no image that can be used ({folders})') from error
    check_length(loader)
    loader.worker_init_fn = WorkerStart(loader.worker_init_fn)
    if seed is not None:
        seed_samples(loader, seed)
    for dataset in innermost(loader.dataset):
        if isinstance(getattr(dataset, 'pipeline', None), Compose):
            watch_labels(dataset)
            dataset.pipeline = CheckedPipeline(dataset.pipeline)
    return loader
