"""A compiler for extensions of torch that parses torch's headers once: `cxx.py FOLDER STANDARD COMPILER ARGUMENT...`.

Every file of an extension includes torch's headers, and parsing them takes most of the time. GCC compiles them once for
each set of flags, into FOLDER, and takes the result for every file; it ignores such a header where it does not fit.
Debug information (-g) is left out as well. With any compiler, `-std=c++NN` is raised to STANDARD, for torch's headers
may need a newer C++ than the extension asks for. All else passes through, other compilers and linking included.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

SOURCES = ('.cpp', '.cc', '.cxx')


def raise_standard(argument: str, standard: int) -> str:
    """Return `-std=c++NN` with `standard` in place of an older one; any other argument as it is."""
    match = re.fullmatch(r'-std=(c|gnu)\+\+([12]\d)', argument)
    return f'-std={match[1]}++{standard}' if match and int(match[2]) < standard else argument


def shared_flags(arguments: list[str]) -> list[str]:
    """Return the arguments that are the same for all files: no source, no output, no list of dependencies."""
    outputs = {name for option, name in itertools.pairwise(arguments) if option in ('-o', '-MF', '-MT')}
    left_out = {*outputs, '-o', '-MF', '-MT', '-MD', '-MMD', '-c'}
    return [argument for argument in arguments if argument not in left_out and not argument.endswith(SOURCES)]


def precompile(folder: Path, compiler: list[str], flags: list[str]) -> Path | None:
    """Return the header to include before files compiled with `flags`, made by the first caller; None where it fails.

    What the compiler says is thrown away: it repeats what is wrong with the flags or the headers for the file itself.
    """
    home = folder / hashlib.sha256('\0'.join(flags).encode()).hexdigest()
    home.mkdir(parents=True, exist_ok=True)
    header, compiled = home / 'headers.h', home / 'headers.h.gch'
    with (home / 'lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not header.exists():
            header.write_text('#include <torch/types.h>\n', encoding='utf-8')
            command = [*compiler, *flags, '-x', 'c++-header', str(header), '-o', str(compiled)]
            if subprocess.run(command, capture_output=True).returncode:
                compiled.unlink(missing_ok=True)
    return header if compiled.exists() else None


def main() -> None:
    folder, standard, command, *arguments = sys.argv[1:]
    compiler = shlex.split(command)
    arguments = [raise_standard(argument, int(standard)) for argument in arguments]
    version = subprocess.run([*compiler, '--version'], capture_output=True, text=True).stdout
    is_gcc = 'Free Software Foundation' in version
    if is_gcc and '-c' in arguments and any(argument.endswith(SOURCES) for argument in arguments):
        arguments = ['-g0' if argument == '-g' else argument for argument in arguments]
        header = precompile(Path(folder), compiler, shared_flags(arguments))
        arguments = [*(['-include', str(header)] if header else []), *arguments]
    os.execvp(compiler[0], [*compiler, *arguments])


if __name__ == '__main__':
    main()
