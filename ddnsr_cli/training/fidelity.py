"""The fidelity warm-up: one network, mean absolute error, an exponential average of its weights."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ddnsr_cli.config import options_to_json
from ddnsr_cli.nets.rrdb import RRDBNet, start_as_nearest
from ddnsr_cli.training.ema import Ema
from ddnsr_cli.training.options import FidelityOptions
from ddnsr_cli.training.pieces import mixed_precision, refuse_not_finite, to_floats
from ddnsr_cli.training.snapshot import Snapshot, adam_tensors, net_tensors, restore_adam, restore_net


class FidelityTrainer:
    """Network, optimiser and average of a warm-up, and how one step moves them.

    Everything that the next step depends on is in `snapshot()`; batches follow from the seed and `step`.
    """

    def __init__(self, options: FidelityOptions, device: torch.device) -> None:
        self.options = options
        self.device = device
        net = RRDBNet(options.network)
        start_as_nearest(net, torch.Generator().manual_seed(options.stream.seed))
        self.net = net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
        self.ema = Ema(self.net, options.ema_decay)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=options.schedule.peak, fused=True)
        self.step = 0
        self.rate_factor = 1.0
        """Times the schedule's rate; lowered when a run has to roll back."""

    def train_step(self, lr: Tensor, hr: Tensor) -> dict[str, float]:
        """One optimiser step on a uint8 batch. Returns the figures of the step by name.

        Raises NotFiniteError, with the weights unmoved, when the loss or a gradient is not finite.
        """
        rate = self.rate_factor * self.options.schedule.rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = F.l1_loss(self._forward(to_floats(lr, self.device)), to_floats(hr, self.device))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.options.clip_norm)
        figures = {"l1": loss.item(), "gradient_norm": norm.item(), "rate": rate}
        refuse_not_finite(figures, self.step)
        self.optimizer.step()
        self.ema.update(self.net, self.step)
        self.step += 1
        return figures

    def start_from(self, net: RRDBNet) -> None:
        """Begin with the weights of a network of the same sizes, in the average too."""
        self.net.load_state_dict(net.state_dict())
        self.ema.average.load_state_dict(net.state_dict())

    def snapshot(self, numbers: dict[str, Any]) -> Snapshot:
        """Everything needed to go on, with `numbers` of the caller's beside the options."""
        tensors = net_tensors("net", self.net) | net_tensors("ema", self.ema.average)
        return Snapshot(
            step=self.step,
            numbers={"options": options_to_json(self.options), "rate_factor": self.rate_factor, **numbers},
            tensors=tensors | adam_tensors("adam", self.optimizer),
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Take over a snapshot of the same options."""
        restore_net("net", self.net, snapshot.tensors)
        restore_net("ema", self.ema.average, snapshot.tensors)
        restore_adam("adam", self.optimizer, snapshot.tensors)
        self.rate_factor = snapshot.numbers["rate_factor"]
        self.step = snapshot.step

    def _forward(self, lr: Tensor) -> Tensor:
        with mixed_precision(self.device, self.options.precision):
            sr: Tensor = self.net(lr)
        return sr.float()
