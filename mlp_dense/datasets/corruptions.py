"""The corruptions of ImageNet-C (arXiv:1903.12261): noise, blur, weather and digital faults, each of five severities.

The package ``imagecorruptions`` makes them. Here is what it leaves open: the order of colours, grey images, and random
numbers that depend on the image and on nothing else.
"""

from __future__ import annotations

import difflib
import inspect
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image

from mlp_dense.datasets.images import loads_bgr, loads_image
from mlp_dense.errors import UserError

SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST = 32
"""Pixels of a side: smaller images have no corruption."""
GROUPS = ('common', 'noise', 'blur', 'weather', 'digital', 'validation', 'all')
"""The package's names for several corruptions; ``common`` are the fifteen of the benchmark, in its order."""
AFTER_CROP = ('Pack', 'Normalize', 'TestTimeAug', 'ToTensor', 'ImageToTensor', 'Collect')
"""How the names of the steps begin before which a classifier's image has the size that the model gets."""


def corruption_names(names: Sequence[str] = ()) -> list[str]:
    """Return the names of corruptions, each once, in the order given; of groups those that are in them.

    Args:
        names: corruptions, or groups of ``GROUPS``. None: the fifteen of the benchmark.

    Raises:
        UserError: a name is unknown, or the package is missing or too old.
    """
    if find_spec('imagecorruptions') is None:
        raise UserError('--corruptions needs a package that is missing: pip install imagecorruptions-imaug')
    from imagecorruptions import corruption_dict, get_corruption_names

    if 'seed' not in inspect.signature(corruption_dict['glass_blur']).parameters:
        raise UserError(
            'the installed imagecorruptions takes no seed, so that results could not be repeated; replace it: '
            'pip uninstall imagecorruptions, then pip install imagecorruptions-imaug'
        )
    chosen: dict[str, None] = {}
    for name in names or ('common',):
        if name not in GROUPS and name not in corruption_dict:
            near = difflib.get_close_matches(name, [*corruption_dict, *GROUPS], 3) or get_corruption_names('common')
            raise UserError(f'--corruptions {name} is unknown; use for example {", ".join(near)}')
        chosen |= dict.fromkeys(get_corruption_names(name) if name in GROUPS else [name])
    return list(chosen)


def corrupt(image: np.ndarray, name: str, severity: int, seed: int = 0) -> np.ndarray:
    """Return a corrupted copy of an image, the same for the same arguments in every process.

    Args:
        image: (H, W, 3) in RGB, uint8, at least ``SMALLEST`` pixels high and wide.
        name: one of :func:`corruption_names`.
        severity: 1 to 5.
        seed: with the other arguments it seeds the random numbers. NumPy's own state is left as it was.
    """
    import imagecorruptions

    key = zlib.crc32(f'{seed} {name} {severity}'.encode(), zlib.crc32(image.tobytes()))
    takes_seed = 'seed' in inspect.signature(imagecorruptions.corruption_dict[name]).parameters
    with numpy_seed(key):
        return imagecorruptions.corrupt(image, severity, name, **({'seed': key} if takes_seed else {}))


@contextmanager
def numpy_seed(seed: int) -> Iterator[None]:
    """Seed NumPy's global random numbers inside a block."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


class Corruption:
    """A step of a pipeline that corrupts ``img``.

    While ``condition`` is None it only looks whether the image can be corrupted.

    Args:
        is_bgr: whether images come with blue first.
        seed: for the random numbers, see :func:`corrupt`.
    """

    def __init__(self, is_bgr: bool, seed: int = 0):
        self.is_bgr, self.seed = is_bgr, seed
        self.condition: tuple[str, int] | None = None

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Corrupt the image of ``results`` in place of the clean one: an array (H, W), (H, W, bands) or PIL's image.

        Of a grey image, which the package turns into three bands, one band is kept.

        Raises:
            UserError: the image is too small, or is neither grey nor RGB with values of 8 bits.
        """
        image = results['img']
        array = np.asarray(image)
        rgb = self._rgb(array, results.get('img_path') or f'number {results.get("sample_idx")}')
        if self.condition is None:
            return results
        rgb = corrupt(rgb, *self.condition, seed=self.seed)
        if array.ndim == 2 or array.shape[2] == 1:
            rgb = rgb[..., 1].reshape(array.shape)
        elif self.is_bgr:
            rgb = np.ascontiguousarray(rgb[..., ::-1])
        results['img'] = Image.fromarray(rgb) if isinstance(image, Image.Image) else rgb.astype(array.dtype)
        return results

    def _rgb(self, image: np.ndarray, name: str) -> np.ndarray:
        bands = 1 if image.ndim == 2 else image.shape[2]
        if bands not in (1, 3):
            raise UserError(f'image {name} has {bands} bands; corruptions are defined for RGB and grey images only')
        if min(image.shape[:2]) < SMALLEST:
            size = f'{image.shape[1]}x{image.shape[0]} pixels'
            raise UserError(f'image {name} is {size} where it is corrupted; {SMALLEST}x{SMALLEST} is the smallest size')
        if not np.array_equal(whole := image.astype(np.uint8), image):
            raise UserError(
                f'image {name} has values other than those of 8 bits ({image.dtype}, {image.min():.6g} to '
                f'{image.max():.6g}); corruptions are defined for 0 to 255 only'
            )
        if bands == 1:
            return np.repeat(whole.reshape(*image.shape[:2], 1), 3, axis=2)
        return whole[..., ::-1] if self.is_bgr else whole


def insert_corruption(steps: list[Any], is_classifier: bool, seed: int = 0) -> Corruption:
    """Insert a :class:`Corruption` into the steps of a built pipeline, in place, and return it.

    A classifier's image is corrupted after it is resized and cropped, as the benchmark's files were made. Those of
    segmentors and detectors are corrupted as they were loaded (arXiv:1908.05005, arXiv:1907.07484).

    Args:
        steps: the steps; those of a dataset are ``dataset.pipeline.transforms``.
        is_classifier: whether the task is classification.
        seed: see :func:`corrupt`.

    Raises:
        UserError: no step loads an image for a segmentor or detector.
    """
    names = [type(step).__name__ for step in steps]
    place = 1 + max((index for index, name in enumerate(names) if loads_image(name)), default=-1)
    if is_classifier:
        later = (index for index, name in enumerate(names) if index >= place and name.startswith(AFTER_CROP))
        place = next(later, len(steps))
    elif place == 0:
        raise UserError(f'the test pipeline has no step that loads an image to corrupt; it has {", ".join(names)}')
    is_bgr = False  # as datasets have images in memory, such as CIFAR
    for step in steps[:place]:
        if loads_image(type(step).__name__):
            is_bgr = loads_bgr(step)
        is_bgr = not getattr(step, 'to_rgb', not is_bgr) if is_bgr else bool(getattr(step, 'to_bgr', False))
    corruption = Corruption(is_bgr, seed)
    steps.insert(place, corruption)
    return corruption
