"""Functions that fail in processes of their own, which find them by name: a library has a package ``tests``, too."""

import os


def end(*_):
    os.kill(os.getpid(), 9)


def fail(*_):
    raise RuntimeError('not enough memory\nand more')
