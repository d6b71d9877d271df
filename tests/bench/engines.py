"""How fast this tool's network runs beside other engines, with the same weights and the same image. Run by hand:

    python tests/bench/engines.py --model ddnsr-lite --side 160
    python tests/bench/engines.py --model ddnsr-photo --side 96 512 --device cuda --most-levels 10

`ours` is what `ddnsr upscale` runs, tiles included, with `OV` by OpenVINO; `eager` is the network as users of
PyTorch get it, in fp32 and NCHW; the others run files exported from the same weights. They are needed here alone, and
one that is missing is left out with a message:

    pip install onnx onnxruntime ncnn && pip install --no-deps openvino

With --device cuda the network runs there: eager in fp32 and, as Real-ESRGAN has it, wholly in fp16, and ours in every
number format, its result copied back, too, and of small images once more without CUDA graphs. The others are for
processors and left out. It takes a minute or two.

All take turns in one process, so that a busy moment does not hit one of them only; its heap keeps what is freed, as
that of the command does. `matmul` is what the device reaches in a plain matrix product. Seconds are those of the
processor with one thread, so that other work on the machine counts little, and of the clock with more, or on a card.
Work is counted as direct convolution, differences are in levels of 255, against `eager`. Megabytes are what the first
turn of an engine takes at its peak beyond what was in use, its weights and what it makes ready not counted; Linux and
cards tell them. For each side a table, then
one JSON line; ratios hold within one run only. The status is 1 when a result differs by more than --most-levels.
"""

import argparse
import copy
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ddnsr_cli.commands.weights.convert import save_ncnn, save_onnx
from ddnsr_cli.inference.device import MOST_GRAPH_PX, SEEN_FOR_A_GRAPH, CudaBackend, choose_device, choose_dtype
from ddnsr_cli.inference.memory import give_back_freed, keep_one_heap
from ddnsr_cli.inference.net_upscaler import NetUpscaler
from ddnsr_cli.inference.tiling import TileConfig
from ddnsr_cli.weights.checkpoint import load_own_net
from ddnsr_cli.weights.layouts import OwnNet
from ddnsr_cli.weights.registry import read_registry
from ddnsr_cli.weights.resolve import find_weights

MATRIX, MATRIX_ON_A_CARD = 1024, 8192  # side of the matrices of the ceiling
WARM_UPS = {"cpu": 1, "cuda": SEEN_FOR_A_GRAPH}  # rounds; on a card a graph is recorded in the last one

Run = Callable[[Tensor], Tensor | None]
"""One turn, of an LR image (1, 3, h, w): the SR image (1, 3, H, W), or None where there is no image."""


def image(side: int) -> Tensor:
    """(1, 3, side, side): a slope with noise of 6 levels, values in [0, 1]."""
    slope = torch.linspace(0.1, 0.8, side)
    noise = 6 / 255 * torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    return ((slope.view(-1, 1) + slope) / 2 + noise).clamp(0, 1)


def flops(net: OwnNet, lr: Tensor) -> int:
    """Of all convolutions, counted by hooks over one run."""
    total = 0

    def count(layer: nn.Conv2d, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += 2 * output[0, 0].numel() * layer.weight.numel()

    hooks = [layer.register_forward_hook(count) for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    net(lr)
    for hook in hooks:
        hook.remove()
    return total


def engines(net: OwnNet, lr: Tensor, folder: Path, threads: int, device: torch.device) -> Iterator[tuple[str, Run]]:
    """All that can run there, with what one turn of each does."""
    there = copy.deepcopy(net).to(device)
    yield "eager fp32 NCHW", lambda lr: there(lr.to(device)).cpu()
    yield from ours(net, device, lr.shape[-1])
    if device.type == "cpu":
        yield from on_processors(net, lr.shape, folder, threads)
    else:
        half = copy.deepcopy(net).to(device, torch.float16)
        yield "eager fp16 NCHW", lambda lr: half(lr.to(device, torch.float16)).float().cpu()
    side = matrix_side(device)
    for dtype in dict.fromkeys((torch.float32, torch.bfloat16, choose_dtype(device))):
        left, right = torch.randn(2, side, side).to(device, dtype)
        name = f"matmul {short(dtype)}"
        yield name, lambda _lr, left=left, right=right: nothing(left @ right, device)


class WithoutGraphs(CudaBackend):
    """As `CudaBackend`, but each kernel is started by itself."""

    def prepared(self, net: nn.Module) -> nn.Module:
        return net


def short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def ours(net: OwnNet, device: torch.device, side: int) -> Iterator[tuple[str, Run]]:
    """What the command runs."""
    formats = [torch.float32, choose_dtype(device), *([] if device.type == "cpu" else [torch.bfloat16])]
    if device.type == "cuda" and side**2 <= MOST_GRAPH_PX:
        upscaler = NetUpscaler(
            net, device=device, dtype=choose_dtype(device), tiles=TileConfig(), backend=WithoutGraphs(device)
        )
        yield f"ours {upscaler.dtype} no graph", upscaler.whole
    for dtype in dict.fromkeys(formats):
        ways: tuple[bool | Literal["int8"], ...] = (False, True, "int8")
        for openvino in ways:
            upscaler = NetUpscaler(net, device=device, dtype=dtype, tiles=TileConfig(), openvino=openvino)
            if upscaler.by_openvino == bool(openvino) and (upscaler.dtype == "int8") == (openvino == "int8"):
                beside = f" {short(dtype)}" if openvino == "int8" else ""  # what is not in int8
                yield f"ours{' OV' * bool(openvino)} {upscaler.dtype}{beside}", upscaler.whole


def on_processors(net: OwnNet, shape: torch.Size, folder: Path, threads: int) -> Iterator[tuple[str, Run]]:
    """The other engines, those that are installed. shape: of all LR images that they are given."""
    for name, others in (("OpenVINO", openvino), ("ONNX Runtime", onnx_runtime), ("ncnn", ncnn)):
        try:
            yield from others(net, shape, folder, threads)
        except ImportError as error:
            print(f"{name} is left out: {error}. See --help for how to install it.", file=sys.stderr)


def matrix_side(device: torch.device) -> int:
    """Of the matrices of the ceiling: large enough for the device."""
    return MATRIX if device.type == "cpu" else MATRIX_ON_A_CARD


def nothing(_result: Tensor, device: torch.device) -> None:
    """A turn that gives no image; it is over when the device has done it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def openvino(net: OwnNet, shape: torch.Size, folder: Path, threads: int) -> Iterator[tuple[str, Run]]:
    import openvino as ov

    save_onnx(folder / "net.onnx", net, metadata={})
    core = ov.Core()
    for precision in ("f32", "bf16"):
        model = core.read_model(folder / "net.onnx")
        model.reshape(list(shape))
        options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": "1"}
        compiled = core.compile_model(model, "CPU", options)
        yield f"OpenVINO {precision}", lambda lr, run=compiled: torch.from_numpy(run(lr.numpy())[0].copy())


def onnx_runtime(net: OwnNet, _shape: torch.Size, folder: Path, threads: int) -> Iterator[tuple[str, Run]]:
    import onnxruntime

    save_onnx(folder / "net.onnx", net, metadata={})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / "net.onnx", options, providers=["CPUExecutionProvider"])
    yield "ONNX Runtime fp32", lambda lr: torch.from_numpy(session.run(None, {"input": lr.numpy()})[0])


def ncnn(net: OwnNet, _shape: torch.Size, folder: Path, threads: int) -> Iterator[tuple[str, Run]]:
    import ncnn as package

    save_ncnn(folder / "net.param", net, half=False)
    for name, is_narrow in (("ncnn fp32", False), ("ncnn bf16", True)):
        ready = package.Net()
        ready.opt.use_vulkan_compute = False
        ready.opt.num_threads = threads
        ready.opt.use_bf16_storage = is_narrow
        ready.load_param(str(folder / "net.param"))
        ready.load_model(str(folder / "net.bin"))

        def run(lr: Tensor, ready: "package.Net" = ready) -> Tensor:
            extractor = ready.create_extractor()
            extractor.input("data", package.Mat(lr[0].contiguous().numpy()).clone())
            return torch.from_numpy(np.array(extractor.extract("output")[1]))[None]

        yield name, run


def peak_megabytes(run: Run, lr: Tensor, device: torch.device) -> float | None:
    """What one turn takes at its peak; None where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run(lr)
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    give_back_freed()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again
    except OSError:
        run(lr)
        return None
    before = status_bytes("VmRSS")
    run(lr)
    return max(0, status_bytes("VmHWM") - before) / 1e6


def status_bytes(name: str) -> int:
    """A line of Linux's status of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def compared(
    turns: dict[str, Run],
    lr: Tensor,
    work: int,
    product: int,
    device: torch.device,
    *,
    rounds: int,
    warm_ups: int,
    clock: Callable[[], float],
) -> list[dict[str, str | float | None]]:
    """One row an engine. work, product: operations of a network and of a matrix product.

    The first rounds warm up and are not counted.
    """
    megabytes = {name: peak_megabytes(run, lr, device) for name, run in turns.items()}
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    results: dict[str, Tensor | None] = {}
    for counted in (*[False] * warm_ups, *[True] * rounds):
        for name, run in turns.items():
            since = clock()
            results[name] = run(lr)
            if counted:
                seconds[name].append(clock() - since)
    first = next(iter(turns))
    expected, eager_s = results[first], statistics.median(seconds[first])
    rows: list[dict[str, str | float | None]] = []
    for name, result in results.items():
        least, median = min(seconds[name]), statistics.median(seconds[name])
        done = product if result is None else work
        levels = None if result is None else float(255 * (result.float() - expected).abs().max())
        rows.append(
            {
                "engine": name,
                "median_s": median,
                "least_s": least,
                "times_eager": None if result is None else eager_s / median,
                "gflops": done / least / 1e9,
                "megabytes": megabytes[name],
                "most_levels": levels,
            }
        )
    return rows


def show(rows: list[dict[str, str | float | None]]) -> None:
    print("".join(f"{name:>18}" for name in rows[0]))
    for row in rows:
        cells = ("" if cell is None else cell if isinstance(cell, str) else f"{cell:.4g}" for cell in row.values())
        print("".join(f"{cell:>18}" for cell in cells))


def measured(net: OwnNet, lr: Tensor, device: torch.device, asked: argparse.Namespace) -> list[str]:
    """Print the table of one image. Returns the engines whose result differs by more than --most-levels."""
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        work = flops(net, lr)
        turns = dict(engines(net, lr, Path(folder), asked.threads, device))
        clock = time.process_time if asked.threads == 1 and device.type == "cpu" else time.perf_counter
        product, warm_ups = 2 * matrix_side(device) ** 3, WARM_UPS.get(device.type, 1)
        rows = compared(turns, lr, work, product, device, rounds=asked.rounds, warm_ups=warm_ups, clock=clock)
    show(rows)
    run = {"network": str(net.config), "side": lr.shape[-1], "torch": torch.__version__, "device": str(device)}
    print(json.dumps({**run, "rows": rows}))
    return [str(row["engine"]) for row in rows if not (row["most_levels"] or 0.0) <= asked.most_levels]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ddnsr-lite", help="a name of the registry, or a file of weights")
    parser.add_argument("--side", type=int, nargs="+", default=[160], help="of the LR images, pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--most-levels", type=float, default=5.0, help="that a result may differ from eager")
    asked = parser.parse_args()
    keep_one_heap()
    torch.set_num_threads(asked.threads)
    device = choose_device(asked.device)
    net, _ = load_own_net(find_weights(asked.model, registry=read_registry(), offline=True).path)
    net = net.eval().requires_grad_(False)
    far = [name for side in asked.side for name in measured(net, image(side), device, asked)]
    if far:
        sys.exit(f"These differ from eager by more than {asked.most_levels:g} levels: {', '.join(far)}.")


if __name__ == "__main__":
    main()
