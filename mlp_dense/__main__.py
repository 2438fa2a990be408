"""``python -m mlp_dense env``: versions, and whether operators and GPU work. Exit code 0 if what is installed works.

Python imports the package, and with it PyTorch and timm, before it comes here, so that even ``--help`` takes seconds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='python -m mlp_dense', description='Example: python -m mlp_dense env')
    commands = parser.add_subparsers(dest='command', required=True)
    commands.add_parser('env', help='print versions and check operators, GPU and models by small runs')
    parser.parse_args(argv)
    from mlp_dense.engine.environment import report

    return report()


if __name__ == '__main__':
    sys.exit(main())
