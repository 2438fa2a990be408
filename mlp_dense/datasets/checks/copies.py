"""Files of the same content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path


def same_content(paths: Iterable[str], among: Iterable[str] | None = None) -> Iterator[tuple[str, str]]:
    """Yield each file of ``paths`` whose content another file has, with the first such file.

    Only files of the same size are read.

    Args:
        paths: files that exist.
        among: the files that they are compared with. None: those of ``paths`` before each, by their names.
    """
    sizes: dict[int, list[str]] = {}
    for path in sorted(among or ()):
        sizes.setdefault(os.path.getsize(path), []).append(path)
    digests: dict[str, bytes] = {}

    def digest(path: str) -> bytes:
        if path not in digests:
            digests[path] = hashlib.blake2b(Path(path).read_bytes()).digest()
        return digests[path]

    for path in sorted(paths):
        others = sizes.setdefault(os.path.getsize(path), [])
        same = next((other for other in others if digest(other) == digest(path)), None)
        if same is not None:
            yield path, same
        elif among is None:
            others.append(path)
