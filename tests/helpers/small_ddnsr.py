"""`python -m tests.helpers.small_ddnsr train ...`: the command with the defaults of small_training."""

import os
import signal
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


def killed_once(step):
    """As by a machine that dies: the second process that the launcher started, when it has done so many steps."""
    from ddnsr_cli.training.trainer import JointTrainer

    train_step = JointTrainer.train_step

    def killed(trainer, *batch):
        if trainer.step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return train_step(trainer, *batch)

    if (os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]) == ("1", "0"):
        JointTrainer.train_step = killed


if __name__ == "__main__":
    without_compiler()
    small_training()
    if "KILLED_AT_STEP" in os.environ:
        killed_once(int(os.environ["KILLED_AT_STEP"]))
    main()
