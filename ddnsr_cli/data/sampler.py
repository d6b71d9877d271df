"""What the paired and the unpaired stream share: in what order images are read, by workers, gathered into rounds.

An *item* of a dataset is the crops of one image, which is decoded for them. A *round* of items is the shuffle buffer.
Nothing here keeps a state: whatever an item or a round holds follows from its number and the seed. An image that cannot
be used in the middle of a run is replaced by the next one of its epoch, in every run and every worker alike, and is
reported.
"""

import os
import pickle
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ddnsr_cli.data.targets import Refusal
from ddnsr_cli.errors import DataError, DdnsrError

BUSY_SHARE = 0.02  # of a processor: a parent that waits takes less
LINGER_S = 60  # of a worker after SIGTERM: enough for the trainer to finish a step and save
ENDLESS = 2**62

Item = TypeVar("Item")
Usable = TypeVar("Usable")


def epoch_order(epoch: int, images: int, seed: int) -> NDArray[np.int64]:
    """The order in which an epoch goes through its images, as indices."""
    return np.random.default_rng([seed, 2, epoch]).permutation(images)


def images_from(item: int, images: int, seed: int) -> NDArray[np.int64]:
    """Indices of all images, first that of the item: it goes on in the epoch's order, and round its end.

    Every image is the first once an epoch.
    """
    epoch, place = divmod(item, images)
    return np.roll(epoch_order(epoch, images, seed), -place)


def first_usable(
    item: int, images: int, seed: int, read: Callable[[int], Usable | Refusal]
) -> tuple[int, Usable, tuple[Refusal, ...]]:
    """(index, image, refused): what an item is cut from, and the images whose turn came before and that cannot be used.

    read: gives the image of an index. Raises DataError when none can be used.
    """
    refused: list[Refusal] = []
    for index in images_from(item, images, seed).tolist():
        image = read(index)
        if not isinstance(image, Refusal):
            return index, image, tuple(refused)
        refused.append(image)
    raise DataError(f"None of the {images} images can be used. First: {refused[0].reason}")


def report_new(refusals: Iterable[Refusal], reported: set[Path], on_refused: Callable[[Refusal], None]) -> None:
    """Tell of each image that is not in `reported`, and put it there."""
    for refusal in refusals:
        if refusal.path not in reported:
            reported.add(refusal.path)
            on_refused(refusal)


def random_crop(image: NDArray[np.uint8], side: int, rng: np.random.Generator) -> Tensor:
    """A (3, side, side) crop, flipped and turned by one of the eight symmetries of the square."""
    top, left = (int(rng.integers(0, length - side + 1)) for length in image.shape[:2])
    crop = torch.from_numpy(image[top : top + side, left : left + side]).permute(2, 0, 1)
    turned = torch.rot90(crop, int(rng.integers(4)), (1, 2))
    return turned.flip(2) if rng.random() < 0.5 else turned


def no_batch_of_one_image(order: NDArray[np.int64], images: Sequence[object], batch: int) -> NDArray[np.int64]:
    """`order`, a round's crops in the order of their batches, with a crop of each batch that is of one image alone
    exchanged for the next of another image. Nothing changes where no batch is, and where there is but one image.

    images: what image each crop is of, by its number, not by its place in `order`; compared only.
    """
    mixed = order.copy()
    number = {image: index for index, image in enumerate(dict.fromkeys(images))}
    of_crop = np.array([number[image] for image in images])
    for first in range(0, len(mixed), batch):
        own = of_crop[mixed[first]]
        if batch > 1 and (of_crop[mixed[first : first + batch]] == own).all():
            _exchange(mixed, of_crop, first, batch)
    return mixed


def _exchange(order: NDArray[np.int64], of_crop: NDArray[np.int64], first: int, batch: int) -> None:
    """Exchange the crop at place `first` for the next, round the end, whose batch keeps two images without it."""
    own = of_crop[order[first]]
    for place in (np.arange(batch, len(order)) + first) % len(order):
        others = np.delete(of_crop[order[place - place % batch :][:batch]], place % batch)
        if of_crop[order[place]] != own and (others != own).any():
            order[first], order[place] = order[place], order[first]
            return


def rounds(
    dataset: Dataset[Item], *, first_round: int, images_per_round: int, workers: int
) -> Iterator[tuple[int, list[Item]]]:
    """(number, its items) of every round from `first_round` on, without end. Raises as the dataset does.

    workers: processes; 0 makes the items in this process.
    """
    number, buffer, first_item = first_round, [], first_round * images_per_round
    # the iterator is in no variable, where the frame of an error would keep it, and with it the workers
    for packed in _packed_items(dataset, first_item=first_item, ahead=images_per_round, workers=workers):
        item: Item | DdnsrError = pickle.loads(packed)
        if isinstance(item, DdnsrError):
            raise item
        buffer.append(item)
        if len(buffer) == images_per_round:
            yield number, buffer
            number, buffer = number + 1, []


class _Packed(Dataset[bytes], Generic[Item]):
    """Items as bytes, for a pipe: tensors go through shared memory, of which a container has 64 MB, and PyTorch waits
    for ever for one that did not fit in; and each takes an open file.

    Errors are values: raised in a worker, they would come out as a whole traceback in one message.
    """

    def __init__(self, dataset: Dataset[Item]) -> None:
        self.dataset = dataset

    def __getitem__(self, item: int) -> bytes:
        made: Item | DdnsrError
        try:
            made = self.dataset[item]
        except DdnsrError as error:
            made = error
        return pickle.dumps(made)


def _packed_items(dataset: Dataset[Item], *, first_item: int, ahead: int, workers: int) -> Iterator[bytes]:
    prefetched = -(-ahead // workers) if workers else None  # a round is decoded while the last is trained on
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than cores: as was asked for
        loader = DataLoader(
            _Packed(dataset),
            batch_size=None,
            sampler=range(first_item, ENDLESS),
            num_workers=workers,
            prefetch_factor=prefetched,
            worker_init_fn=_leave_stopping_to_the_trainer,
        )
        return iter(loader)


def _leave_stopping_to_the_trainer(_worker: int) -> None:
    """Stop signals reach a whole process group; a worker that died of one would break the step in hand."""
    if hasattr(signal, "SIGALRM"):  # Windows has neither groups nor these signals
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        lingering = Lingering(LINGER_S, _parent_cpu_s)
        signal.signal(signal.SIGTERM, lingering.asked)
        signal.signal(signal.SIGALRM, lingering.late)


class Lingering:
    """What a worker does about SIGTERM: it goes on serving as long as the parent works, and not for ever.

    The parent may be at a step that takes minutes, or at its own end, where it waits for us and computes nothing.
    """

    def __init__(self, patience_s: int, parent_cpu_s: Callable[[], float | None]) -> None:
        """parent_cpu_s: what the parent has computed so far, seconds; None where the system does not tell."""
        self._patience_s = patience_s
        self._parent_cpu_s = parent_cpu_s
        self._before = parent_cpu_s()

    def asked(self, _number: int, _frame: FrameType | None) -> None:
        """Handler of SIGTERM."""
        self._before = self._parent_cpu_s()
        signal.alarm(self._patience_s)

    def late(self, _number: int, _frame: FrameType | None) -> None:
        """Handler of SIGALRM: patience is over."""
        now = self._parent_cpu_s()
        if now is None or self._before is None or now - self._before < BUSY_SHARE * self._patience_s:
            os._exit(0)
        self._before = now
        signal.alarm(self._patience_s)


def _parent_cpu_s() -> float | None:
    try:
        fields = Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
