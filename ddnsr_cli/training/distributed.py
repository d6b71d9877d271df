"""Several processes that train as one, on PyTorch's distributed engine (`torchrun`).

Every process holds all networks and takes its share of each batch. Gradients are averaged, and whatever looks at the
whole batch (batch norm, the means of the relativistic discriminator) sees the global one: a run gives the same curve
on one process and on many, to rounding. What a batch holds follows from seed and step alone, so the number of processes
may change from one save to the next, as when `torchrun` goes on without a node that died.

A process may be given too large a share for its memory, then the networks take it a micro-batch at a time. What they
compute on the way is thrown away and made again for the gradient, so that the discriminators still see whole shares:
batch norm by micro-batches would be another training.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.utils.checkpoint import checkpoint

from ddnsr_cli.errors import ConfigError, DdnsrError, DeviceError, OtherProcessError, TrainingError
from ddnsr_cli.training.loop import StopRequest

LONGEST_WAIT = timedelta(days=1)
"""For another process: the first alone looks at all images before the first step, and validates."""


@dataclass(frozen=True, kw_only=True)
class World:
    """The processes of a run, as one of them sees them. Alone, everything here is the identity."""

    rank: int = 0
    """Number of this process; 0 writes the files."""

    size: int = 1
    """Number of processes."""

    batch: int | None = None
    """Crops in a batch of all processes; None: shares are equal."""

    micro_batch: int | None = None
    """Most crops that a network takes at once; None: the whole share."""

    def __post_init__(self) -> None:
        if self.batch is not None and self.batch < self.size:
            raise ConfigError(
                f"A batch of {self.batch} cannot be shared by {self.size} processes. Choose at least {self.size}."
            )

    @property
    def is_first(self) -> bool:
        """Whether this process writes and talks."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of a global batch: (N, ...) -> (n, ...). The first ones get one more where N / size is
        not whole.
        """
        part, more = divmod(len(batch), self.size)
        first = self.rank * part + min(self.rank, more)
        return batch[first : first + part + (self.rank < more)]

    @property
    def weight(self) -> float:
        """How much larger this process's share is than the mean one."""
        if self.batch is None or self.size == 1:
            return 1.0
        part, more = divmod(self.batch, self.size)
        return (part + (self.rank < more)) * self.size / self.batch

    def micro_batches(self, share: Tensor) -> tuple[Tensor, ...]:
        """A share (n, ...) as what a network takes at once."""
        return torch.split(share, self.micro_batch or len(share))

    def in_parts(self, function: Callable[..., Tensor], *shares: Tensor) -> Tensor:
        """function(*shares), all (n, ...), by micro-batches where shares are larger: nothing may look at all of one."""
        most = self.micro_batch or len(shares[0])
        if len(shares[0]) <= most:
            return function(*shares)
        parts = zip(*(torch.split(share, most) for share in shares), strict=True)
        made = [checkpoint(function, *part, use_reentrant=False, preserve_rng_state=False) for part in parts]
        return torch.cat(made)

    def mean_in_parts(self, difference: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        """The same mean over a share, by micro-batches where it is larger."""

        def in_parts(made: Tensor, truth: Tensor) -> Tensor:
            if len(made) <= (self.micro_batch or len(made)):
                return difference(made, truth)
            sums = self.in_parts(lambda one, other: (len(one) * difference(one, other)).reshape(1), made, truth)
            return sums.sum() / len(made)

        return in_parts

    def backward(self, losses: Mapping[str, Tensor]) -> None:
        """Gradients of the sum of all, each a mean over this process's share, in one pass."""
        (self.weight * torch.stack(list(losses.values())).sum()).backward()  # type: ignore[no-untyped-call]

    def mean(self, value: Tensor) -> Tensor:
        """The mean over all processes of what is a mean over each one's share; gradients flow back to all of them."""
        if self.size == 1:
            return value
        total: Tensor = _Sum.apply(self.weight * value)  # type: ignore[no-untyped-call]
        return total / self.size

    def average(self, values: Tensor) -> Tensor:
        """The mean of all values of all processes, a scalar. Gradients flow."""
        return self.mean(values.mean())

    def mean_of(self, figures: Mapping[str, float], device: torch.device) -> dict[str, float]:
        """Each figure's mean over the global batch."""
        if self.size == 1:
            return dict(figures)
        values = self.weight * torch.tensor(list(figures.values()), dtype=torch.float64, device=device)
        _add_up(values)
        return dict(zip(figures, (values / self.size).tolist(), strict=True))

    def average_gradients(self, net: nn.Module) -> None:
        """Replace each gradient by its mean over the processes, in one exchange."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        _add_up(flat)
        flat /= self.size
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.reshape(gradient.shape))

    def agree(self, wish: bool, device: torch.device) -> bool:
        """Whether any process wishes: all get the same answer."""
        if self.size == 1:
            return wish
        flag = torch.tensor(float(wish), device=device)
        _add_up(flag)
        return bool(flag.item() > 0)

    def refuse_other_steps(self, step: int) -> None:
        """Raises TrainingError, in all processes, where they do not go on from the same step."""
        here = torch.tensor([float(step), float(step) ** 2], dtype=torch.float64)
        if self.size > 1:
            _add_up(here)
            here /= self.size
        mean, square = here.tolist()
        if square > mean**2 + 0.1:
            raise TrainingError(
                f"The processes go on from different steps, this one from {step}: they see different run folders. "
                f"Give an -o on a disk that all of them share."
            )


ALONE = World()
"""A run of one process."""


def _add_up(value: Tensor) -> None:
    """Replace a tensor by its sum over the processes."""
    with _all_there():
        dist.all_reduce(value)


@contextmanager
def _all_there() -> Iterator[None]:
    try:
        yield
    except RuntimeError as cause:  # what the backends raise when the connection breaks
        reason = (str(cause).splitlines() or ["no reason given"])[0].split(". ")[0]
        raise TrainingError(
            f"Another process of the run has ended or cannot be reached ({reason}). The last save is intact: start "
            f"all again."
        ) from cause


class _Sum(torch.autograd.Function):
    """The sum of a tensor over the processes. A change of one summand changes the sum in all: gradients are summed."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:  # noqa: ARG004
        total = value.detach().clone()
        _add_up(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # noqa: ARG004
        total = gradient.clone()
        _add_up(total)
        return total


class AgreedStop:
    """True for all processes as soon as one of them was asked to stop. Must be asked by all in the same order."""

    def __init__(self, stop: StopRequest, world: World, device: torch.device) -> None:
        self._stop = stop
        self._world = world
        self._device = device

    def __bool__(self) -> bool:
        return self._world.agree(bool(self._stop), self._device)


def own_device(world: World, chosen: torch.device) -> torch.device:
    """The device of this process: one GPU each, by local rank, when there are several processes and GPUs are meant.

    Raises DeviceError when there are more processes than GPUs.
    """
    if world.size == 1 or chosen.type != "cuda":
        return chosen
    index, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if index >= count:
        raise DeviceError(f"There are more processes than GPUs ({count}). Start {count}, or use --device cpu.")
    torch.cuda.set_device(index)  # where nccl exchanges
    return torch.device("cuda", index)


def process_count() -> int:
    """Those of a run by `torchrun`, 1 without it. Raises ConfigError where the environment names no such number."""
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdecimal() or int(text) == 0:
        raise ConfigError(f"WORLD_SIZE is to be the number of processes, got {text!r}. Unset it, or use torchrun.")
    return int(text)


@contextmanager
def _meeting(size: int) -> Iterator[None]:
    """What keeps the processes from meeting in the block is a ConfigError where the environment is at fault, else a
    TrainingError.
    """
    rank = os.environ.get("RANK", "0")
    if not rank.isdecimal() or int(rank) >= size:
        raise ConfigError(f"RANK is to be 0 to {size - 1}, as WORLD_SIZE is {size}, got {rank!r}. Use torchrun.")
    try:
        yield
    except ValueError as cause:
        reason = str(cause).rpartition("rendezvous: ")[2]
        raise ConfigError(
            f"WORLD_SIZE says that there are {size} processes, but not how they meet ({reason}). Unset it, or use "
            f"torchrun."
        ) from cause
    except RuntimeError as cause:
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        reason = (str(cause).splitlines() or ["no reason given"])[0]
        raise TrainingError(
            f"The processes of the run could not meet at {place} ({reason}). Check that address, or take another port."
        ) from cause


@contextmanager
def joined_world(*, micro_batch: int | None = None) -> Iterator[World]:
    """The processes that `torchrun` started, or this one alone; leaves them at the end.

    micro_batch: as `World` takes it.

    Tensors on GPUs are exchanged by nccl, those on the CPU by gloo. When the processes fail, the first to fail raises
    its error, and the others, which mostly fail for want of it, OtherProcessError. Raises ConfigError and TrainingError
    where they cannot meet.
    """
    size = process_count()
    if size == 1:
        yield World(micro_batch=micro_batch)
        return
    with _meeting(size):
        add, rank = _join()
    try:
        yield World(rank=rank, size=size, micro_batch=micro_batch)
    except DdnsrError as error:
        if not _fails_first(add):
            raise OtherProcessError("Another process of the run failed; it tells why.") from error
        raise
    finally:
        dist.destroy_process_group()


def _join() -> tuple[Callable[[str, int], int], int]:
    """Wait for the other processes. Returns what adds to a number in the store that they share, and this one's own."""
    # It keeps the group that is there when it is first imported (by an optimizer's step, too) as a default argument,
    # and a group that is kept is not taken down: its threads live into the end of Python, which now and then aborts.
    import torch.distributed.nn.functional

    store, rank, size = next(rendezvous("env://"))
    if os.environ.get("GROUP_WORLD_SIZE", "1") == "1":
        # A launcher that starts its processes again gives them the store of those before, where they would read what
        # those wrote. Launchers of several nodes do not count alike.
        start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.PrefixStore(f"start {start}", store)  # type: ignore[attr-defined]
    backends = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backends, store=store, rank=rank, world_size=size, timeout=LONGEST_WAIT)
    dist.all_reduce(torch.zeros(1))  # of one that leaves at once the others would say that they could not meet
    return store.add, rank


def _fails_first(add: Callable[[str, int], int]) -> bool:
    try:
        return add("failed", 1) == 1
    except RuntimeError:  # the process that keeps the store is gone
        return False


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose statistics are those of the batches of all processes together.

    PyTorch's SyncBatchNorm does this on GPUs only. Same parameters, buffers and names as `nn.BatchNorm2d`.
    """

    def __init__(self, like: nn.BatchNorm2d, world: World) -> None:
        device, dtype = like.weight.device, like.weight.dtype
        super().__init__(like.num_features, eps=like.eps, momentum=like.momentum, device=device, dtype=dtype)
        self.load_state_dict(like.state_dict())
        self.train(like.training)
        self._world = world

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        if not self.training:
            return super().forward(x)
        values = x.float()
        mean = self._world.mean(values.mean(dim=(0, 2, 3)))
        centered = values - mean[:, None, None]
        variance = self._world.mean(centered.square().mean(dim=(0, 2, 3)))
        self._remember(mean, variance, round(x.numel() / x.shape[1] * self._world.size / self._world.weight))
        normed = centered * torch.rsqrt(variance + self.eps)[:, None, None]
        return (normed * self.weight[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        momentum = self.momentum or 0.0
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype) * count / (count - 1), momentum)
        self.num_batches_tracked += 1


def share_batch_statistics(net: nn.Module, world: World) -> None:
    """Make every batch norm of `net` a global one; alone, nothing changes."""
    if world.size == 1:
        return
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, GlobalBatchNorm2d(child, world))
