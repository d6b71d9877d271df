"""`python -m tests.helpers.small_ddnsr train ...`: the command with the defaults of small_training."""

import sys
from types import ModuleType, SimpleNamespace

import torch

from ddnsr_cli.cli.app import main
from tests.helpers.small_training import small_training


def without_compiler():
    """Optimizers import PyTorch's compiler only to keep out of it, which takes longer than all that a run does here."""
    stand_in = ModuleType("torch._dynamo")
    stand_in.graph_break = lambda: None
    stand_in.disable = lambda function, *_, **__: function
    stand_in.trace_rules = SimpleNamespace(clear_lru_cache=lambda: None)
    torch._dynamo = sys.modules["torch._dynamo"] = stand_in


if __name__ == "__main__":
    without_compiler()
    small_training()
    main()
