"""The files that are written: a config and what stands beside it. Nothing is written into the data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlp_dense.errors import UserError

KINDS = ('_train.txt', '_val.txt', '_test.txt', '_train.json', '_val.json', '_test.json', '_labels')


WRITTEN = '# Written by tools/own_data.py;'
"""The beginning of the second line of each config."""


class Outputs:
    """A config file and the files beside it, whose names begin with the config's.

    Args:
        config: the path of the config, which ends with ``.py``.
        overwrite: whether files that are there already are replaced.

    Raises:
        UserError: the config's name does not fit, or a file is there already.
    """

    def __init__(self, config: Path, overwrite: bool):
        self.config = config
        if config.suffix != '.py' or '.' in config.stem:
            raise UserError(f'--out {config}: a config is a Python file; give a name such as my_config.py')
        present = [path for path in (config, *map(self.beside, KINDS)) if path.exists()]
        if present and not (overwrite and _is_written_here(config)):
            replace = ', or --overwrite to replace it' if _is_written_here(config) else ' (it is not from this tool)'
            raise UserError(f'{present[0]} is there already; give another --out{replace}')
        self.present = present

    def beside(self, ending: str) -> Path:
        """Return the path of a file beside the config."""
        return self.config.with_name(f'{self.config.stem}{ending}')

    def name_of(self, path: Path) -> str:
        """Return how the config names a file beside it, wherever both are moved."""
        return '{here}/' + path.name

    def start(self) -> None:
        """Make the folder, and take away what an earlier call has written there."""
        self.config.parent.mkdir(parents=True, exist_ok=True)
        for path in self.present:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def write_list(self, split: str, names: Sequence[str]) -> str:
        """Write the names of the images of a split, one in a line, and return how the config names the list."""
        path = self.beside(f'_{split}.txt')
        path.write_text(''.join(f'{name}\n' for name in names), encoding='utf-8')
        return self.name_of(path)

    def write_json(self, split: str, content: Any) -> str:
        """Write the annotations of a split and return how the config names the file."""
        path = self.beside(f'_{split}.json')
        path.write_text(json.dumps(content), encoding='utf-8')
        return self.name_of(path)

    def make_folder(self, name: str) -> Path:
        """Make a folder beside the config."""
        path = self.beside(f'_{name}')
        path.mkdir(parents=True)
        return path


def _is_written_here(config: Path) -> bool:
    """Tell whether a config is one that this package wrote, with what stands beside it."""
    return config.is_file() and WRITTEN in config.read_text(encoding='utf-8', errors='replace')
