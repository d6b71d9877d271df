"""Imported before a first step of training: optimizers import PyTorch's compiler only to keep out of it, and that takes
longer than all that a small run does.
"""

import importlib
import sys
from types import ModuleType, SimpleNamespace


class _Compiler(ModuleType):
    """What optimizers and checkpoints ask for."""

    def __getattr__(self, name):
        """Whoever asks for more gets the compiler itself."""
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        sys.modules.pop(self.__name__, None)
        return getattr(importlib.import_module(self.__name__), name)


_compiler = _Compiler("torch._dynamo")
_compiler.graph_break = lambda: None
_compiler.disable = lambda function, *_, **__: function
_compiler.trace_rules = SimpleNamespace(clear_lru_cache=lambda: None)
_compiler.config = SimpleNamespace(error_on_nested_fx_trace=True)
sys.modules[_compiler.__name__] = _compiler
