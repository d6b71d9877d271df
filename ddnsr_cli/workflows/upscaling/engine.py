"""The network of a run, ready on its device."""

from dataclasses import dataclass

import torch

from ddnsr_cli.checkpoint import load_sr_net
from ddnsr_cli.device import choose_device, choose_dtype
from ddnsr_cli.inference import Upscaler
from ddnsr_cli.registry import read_registry
from ddnsr_cli.weights import find_weights
from ddnsr_cli.workflows.upscaling.options import UpscaleListener, UpscaleOptions


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A network, and which one it is."""

    upscaler: Upscaler
    device: torch.device

    model: str
    """How the user calls it."""

    sha256: str
    """Of its weights file."""


def start_engine(options: UpscaleOptions, listener: UpscaleListener) -> Engine:
    """Find the weights, fetch them if need be, and bring the network to the device.

    Raises WeightsError, HubError and DeviceError as the parts do.
    """
    device = choose_device(options.device)
    weights = find_weights(
        options.model, registry=read_registry(), offline=options.offline, on_progress=listener.download
    )
    if weights.terms:
        listener.note(weights.terms)
    net, _ = load_sr_net(weights.path)
    upscaler = Upscaler(
        net,
        device=device,
        dtype=choose_dtype(device, options.dtype),
        tiles=options.tiles,
        tta=options.tta,
        name=weights.name,
    )
    dtype = str(upscaler.dtype).removeprefix("torch.")
    listener.detail(f"model {weights.name} ({weights.path}), on {device}, in {dtype}")
    return Engine(upscaler=upscaler, device=device, model=weights.name, sha256=weights.sha256)
