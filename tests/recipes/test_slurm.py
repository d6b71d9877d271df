"""The Slurm script, with stand-ins for Slurm's commands: what it makes of Slurm's variables, torchrun takes."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from torch.distributed.run import config_from_args, get_args_parser

SCRIPT = Path(__file__).parents[2] / "recipes" / "slurm_train.sh"
STAND_INS = {
    "scontrol": 'test "$*" = "show hostnames gpu[07-09]" && printf "gpu07\\ngpu08\\ngpu09\\n"',
    "srun": 'test "$1" = --kill-on-bad-exit=0 && shift && exec "$@"',
    "torchrun": 'printf "%s\\0" "$@"',
}
SLURM = {"SLURM_JOB_ID": "4711023", "SLURM_JOB_NODELIST": "gpu[07-09]", "SLURM_NNODES": "3", "SLURM_GPUS_ON_NODE": "4"}
TRAIN = ["--track", "2", "--hr", "clean images", "-o", "runs/mine"]

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the script is bash's")


def launched(folder, **variables):
    """What torchrun is given, as it reads it."""
    return get_args_parser().parse_args(said(folder, STAND_INS, **variables).split("\0")[:-1])


def said(folder, stand_ins, **variables):
    for name, line in stand_ins.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", **SLURM, **variables}
    return subprocess.run(["bash", SCRIPT, *TRAIN], env=environment, capture_output=True, check=True, text=True).stdout


def test_torchrun_is_told_what_slurm_says(tmp_path):
    given = launched(tmp_path)
    config, _, _ = config_from_args(given)
    assert (config.min_nodes, config.max_nodes, config.nproc_per_node, config.max_restarts) == (1, 3, 4, 3)
    assert (config.rdzv_backend, config.run_id, config.rdzv_endpoint) == ("c10d", "4711023", "gpu07:21023")
    assert (given.module, given.training_script) == (True, "ddnsr_cli")
    assert given.training_script_args == ["train", *TRAIN]


def test_a_node_without_gpus_gets_one_process(tmp_path):
    assert launched(tmp_path, SLURM_GPUS_ON_NODE="").nproc_per_node == "1"


def test_torchrun_waits_for_the_save_nearly_as_long_as_slurm_does(tmp_path):
    limit_s = int(re.search(r"--signal=TERM@(\d+)", SCRIPT.read_text(encoding="utf-8"))[1])
    stand_ins = {**STAND_INS, "torchrun": 'printf %s "$TORCH_ELASTIC_SHUTDOWN_TIMEOUT"'}
    assert 0.8 * limit_s < int(said(tmp_path, stand_ins)) < limit_s
