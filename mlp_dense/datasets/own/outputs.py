"""The files that are written: a config and what stands beside it. Nothing is written into the data."""

from __future__ import annotations

import shutil
from pathlib import Path

from mlp_dense.errors import UserError

KINDS = ('_train.txt', '_val.txt', '_test.txt', '_train.json', '_val.json', '_test.json', '_labels')
WRITTEN = '# Written by tools/own_data.py;'
"""The beginning of the second line of each config."""


class Code(str):
    """A text that stands in a config as it is, where other texts stand in quotes."""

    def __repr__(self) -> str:
        return str(self)


def call(**values: object) -> Code:
    """Write a dict in the form ``dict(name=value)``."""
    return Code(f'dict({", ".join(f"{name}={value!r}" for name, value in values.items())})')


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
        self.present = [path for path in (config, *map(self.beside, KINDS)) if path.exists()]
        is_ours = config.is_file() and WRITTEN in config.read_text(encoding='utf-8', errors='replace')
        if self.present and not (overwrite and is_ours):
            replace = ', or --overwrite to replace it' if is_ours else ' (it is not from this tool)'
            raise UserError(f'{self.present[0]} is there already; give another --out{replace}')

    def beside(self, ending: str) -> Path:
        """Return the path of a file beside the config."""
        return self.config.with_name(f'{self.config.stem}{ending}')

    def start(self) -> None:
        """Make the folder, and take away what an earlier call has written there."""
        self.config.parent.mkdir(parents=True, exist_ok=True)
        for path in self.present:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def write(self, ending: str, text: str | None = None) -> Code:
        """Write a file beside the config, or make a folder, and return how the config names it wherever both move."""
        path = self.beside(ending)
        if text is None:
            path.mkdir(exist_ok=True)
        else:
            path.write_text(text, encoding='utf-8')
        return Code(f'here + {"/" + path.name!r}')
