"""Compiling mmcv: how many compilers at once, how far they are, and what to do where they fail."""

from __future__ import annotations

import os
import re

REMEDIES = {
    r'No space left on device': 'free some disk space (the build needs 2 GB in the temporary folder; TMPDIR moves it)',
    r'Killed signal|out of memory|Cannot allocate|bad_alloc': 'the memory ran out: set MAX_JOBS=1',
    r'fatal error: Python\.h': "install Python's header files (Debian and Ubuntu: python3-dev)",
    r'invalid pyproject.toml config|No module named .(setuptools|wheel|packaging)':
        'setuptools does not fit: remove .venv, so that the tested version is installed',
    r'detected CUDA version':
        'install the CUDA toolkit that torch was built with, or hide the GPU: CUDA_VISIBLE_DEVICES=',
    r'c\+\+.*not found|g\+\+.*[Nn]o such file|command .*(gcc|cc|c\+\+|g\+\+). failed: No such file':
        'install a C++ compiler (Debian and Ubuntu: build-essential)',
    r'Could not find a version|ConnectionError|Temporary failure in name resolution|timed out':
        'the source could not be downloaded: check the network',
}  # fmt: skip


def diagnose(output: str) -> str:
    """The first errors of a failed build, without pip's own general ones, and the remedy, as two lines."""
    lines = [line.strip()[:200] for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r'(^|: )(fatal )?error: |^\w+Error: |No space left', line)]
    telling = [line for line in errors if not re.search(r'subprocess-exited|Failed (to build|building)', line)]
    remedy = next((text for pattern, text in REMEDIES.items() if re.search(pattern, output)), '')
    remedy = remedy or 'the compiler, free disk space and memory (MAX_JOBS=1) are the usual causes'
    return f'  errors: {" | ".join(telling[:3] or lines[-3:])}\n  remedy: {remedy}; then run `make setup` again'


def build_progress(text: str) -> str:
    """`n of N files` from ninja's lines."""
    found = re.findall(r'\[(\d+)/(\d+)\]', text)
    return '{} of {} files compiled'.format(*found[-1]) if found else 'preparing'


def default_jobs() -> int:
    """Compilers to run at once: one per core, but 2 GiB of memory for each."""
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    return max(1, min(cores, memory // 2**31))
