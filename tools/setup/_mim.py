"""Ask OneDL's mim tool whether it offers a prebuilt mmcv wheel for the torch in .venv."""

from __future__ import annotations

import json
from pathlib import Path

from _shell import Shell, pip_progress

SITE = "import sysconfig; print(sysconfig.get_paths()['purelib'])"


def wheel_from_mim(shell: Shell, python: Path, version: str, scratch: Path) -> tuple[Path | None, str]:
    """The downloaded wheel, or None and the reason.

    mim lives in a throw-away environment, since it pins versions (pandas, setuptools) that .venv must not get; a .pth
    file lets it see the torch of `python`, by which it chooses. It can only install, so it is asked what it would
    install. A source archive does not count: the build with progress and cache is ours.
    """
    home = scratch / 'mim'
    own = home / 'bin' / 'python'
    steps = [
        ([python, '-m', 'venv', home], 60),
        ([own, '-m', 'pip', 'install', '--retries', '1', 'pip>=23', 'onedl-mim'], 240),
    ]
    for command, seconds in steps:
        result = shell.run(command, timeout=seconds)
        if not result.ok:
            return (
                None,
                f'it cannot be installed: {result.last_line()}' if result.code else 'installing it took too long',
            )
    sites = [shell.run([interpreter, '-c', SITE]).output.strip() for interpreter in (own, python)]
    Path(sites[0], 'torch_of_project.pth').write_text(sites[1] + '\n', encoding='utf-8')

    report = scratch / 'mim.json'
    command = [own, '-m', 'mim', 'install', '--dry-run', '--report', report, '--ignore-installed', '--no-deps']
    result = shell.run(
        [*command, '--only-binary=onedl-mmcv', '--retries', '0', '--timeout', '10', f'onedl-mmcv=={version}'],
        timeout=60,
    )
    url = offered_url(report)
    if not url:
        return None, 'no answer within a minute' if result.code is None else result.last_line()
    download = [python, '-m', 'pip', 'download', '--no-deps', '-d', scratch, url]
    result = shell.run(download, timeout=600, progress=pip_progress)
    wheels = list(scratch.glob('*.whl'))
    return (wheels[0], '') if result.ok and wheels else (None, f'its wheel cannot be downloaded: {result.last_line()}')


def offered_url(report: Path) -> str:
    """Address of the wheel in pip's report of a dry run; '' where there is no report or no wheel in it."""
    if not report.exists():
        return ''
    found = json.loads(report.read_text(encoding='utf-8')).get('install', [])
    urls = [item['download_info']['url'] for item in found]
    return next((url for url in urls if url.split('#')[0].endswith('.whl')), '')
