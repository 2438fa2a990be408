"""Pictures for the page: the library's visualizers, and files inside the HTML."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import VISUALIZERS
from PIL import Image


def make_visualizer(cfg: Config, dataset: Any) -> Any:
    """Build the visualizer of a config, writing nowhere, with the names and colours of a data set."""
    visualizer = VISUALIZERS.build({**cfg.visualizer, 'vis_backends': [], 'name': 'report'})
    visualizer.dataset_meta = dataset.metainfo
    return visualizer


def data_uri(picture: np.ndarray, lossless: bool = False) -> str:
    """Return an address that holds the file (WebP) of a picture (H, W, 3) in RGB."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, 'WEBP', quality=82, lossless=lossless)
    return f'data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}'
