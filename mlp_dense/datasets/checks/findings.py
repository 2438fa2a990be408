"""The form of a finding, and lists of them that stay short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mlp_dense.errors import one_line


@dataclass(frozen=True)
class Finding:
    """One fault of a data set.

    Args:
        level: 'error' for what ends or falsifies a run, 'warning' for the rest.
        file: the file or folder at fault.
        message: one line that names annotation and value, and the remedy.
        kind: a word that findings of the same fault share.
    """

    level: str
    file: str
    message: str
    kind: str = ''

    def __post_init__(self) -> None:
        for name in ('file', 'message'):
            object.__setattr__(self, name, one_line(getattr(self, name)))

    def __str__(self) -> str:
        return f'{self.file}: {self.message}'


def absent_classes(file: str, names: Sequence[str], total: int) -> Iterator[Finding]:
    """Yield one finding if there are names of classes that never occur, out of ``total`` classes."""
    if names:
        more = f' and {len(names) - 10} more' if len(names) > 10 else ''
        what = f'{len(names)} of {total} classes never occur: {", ".join(names[:10])}{more}'
        message = f'{what}; they can be neither learned nor judged here'
        yield Finding('warning', file, message, 'classes that never occur')


def cap(findings: Iterable[Finding], limit: int = 10) -> Iterator[Finding]:
    """Yield the first ``limit`` findings of each kind, and then, for each longer kind, how many more there are."""
    counts: Counter[tuple[str, str]] = Counter()
    last: dict[tuple[str, str], Finding] = {}
    for finding in findings:
        key = finding.level, finding.kind or finding.message
        counts[key] += 1
        last[key] = finding
        if counts[key] <= limit:
            yield finding
    for (level, kind), count in counts.items():
        if count > limit:
            file = last[level, kind].file
            yield Finding(level, file, f'and {count - limit} more of this kind: {kind}', kind)
