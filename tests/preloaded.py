"""What the server in runs.py imports once for all the processes that it forks.

An import that hangs would leave whoever waits for the first process without an answer for ever. It is told instead, by
the stacks of the server, which then ends; so does the test.
"""

import faulthandler
import os
from contextlib import suppress
from importlib import import_module

faulthandler.dump_traceback_later(500, exit=True)
for library in ('mmdet', 'mmseg', 'mmpretrain'):
    for part in ('models', 'datasets', 'evaluation', 'visualization'):
        with suppress(ImportError):
            import_module(f'{library}.{part}')
for module in ('engine.runner', 'engine.testing', 'datasets.shapes', 'predict', 'report.build', 'report.browsing'):
    import_module(f'mlp_dense.{module}')
for module in ('matplotlib.pyplot', 'torch.utils.tensorboard'):
    import_module(module)
del os.environ['PYTHONPATH']  # by which the server finds this file
faulthandler.cancel_dump_traceback_later()
