"""What a person sees of a training or a test; mmengine's log file and records stay as they are."""

from mlp_dense.engine.console.screen import RunConsole, on_screen

__all__ = ['RunConsole', 'on_screen']
