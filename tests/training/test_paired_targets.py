"""A teacher's targets: of one view a step, turned back, in the colors of the input."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ddnsr_cli.nets.blocks import SrNet, as_view, undone_view
from ddnsr_cli.nets.config import VIEWS, SrTraits
from ddnsr_cli.training.paired import Teacher, with_colors_of


class Sloped(SrNet):
    """Enlarges four times and adds a slope from top to bottom: unlike in every view."""

    def __init__(self, offset: float = 0.0) -> None:
        super().__init__()
        self.offset = offset

    @property
    def traits(self) -> SrTraits:
        return SrTraits(scale=4, halo_px=0, values_per_px=3)

    def forward(self, lr: Tensor) -> Tensor:
        sr = F.interpolate(lr, scale_factor=4, mode="nearest")
        rows = torch.arange(sr.shape[2]).reshape(1, 1, -1, 1) % 4  # within an LR pixel: the colors stay
        return sr + 0.01 * (rows - 1.5) + self.offset


@pytest.fixture
def lr():
    rough = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    return 0.2 + 0.6 * F.interpolate(rough, scale_factor=4, mode="bilinear")


@pytest.mark.parametrize("view", range(VIEWS))
def test_each_view_is_undone(lr, view):
    assert torch.equal(undone_view(as_view(lr, view), view), lr)


def test_the_views_are_eight():
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    assert len({tuple(as_view(image, view).flatten().tolist()) for view in range(VIEWS)}) == VIEWS


def test_the_views_of_the_steps_are_drawn_from_the_seed_and_all_come(lr):
    def targets(seed):
        return [Teacher(Sloped(), seed=seed)(lr, step) for step in range(40)]

    one, again, other = targets(3), targets(3), targets(4)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    distinct = {tuple(target.flatten()[:400].tolist()) for target in one}
    assert len(distinct) == 4  # a slope along one axis is the same in pairs of views


def test_the_target_stands_as_the_input_does(lr):
    plain = F.interpolate(lr, scale_factor=4, mode="nearest")
    for step in range(8):
        torch.testing.assert_close(Teacher(Sloped(), seed=0)(lr, step), plain, atol=0.016, rtol=0)


def test_an_offset_of_the_teacher_is_taken_back_and_its_detail_is_not(lr):
    target, exact = (Teacher(Sloped(offset), seed=0)(lr, 0) for offset in (0.1, 0.0))
    torch.testing.assert_close(target, exact, atol=1e-5, rtol=0)
    detail = torch.randn(2, 3, 64, 80, generator=torch.Generator().manual_seed(1))
    detail -= F.interpolate(F.avg_pool2d(detail, 4), scale_factor=4, mode="nearest")
    sr = F.interpolate(lr, scale_factor=4, mode="nearest") + 0.02 * detail
    torch.testing.assert_close(with_colors_of(lr, sr), sr, atol=1e-5, rtol=0)


def test_targets_lie_within_bounds_and_have_no_graph(lr):
    target = Teacher(Sloped(), seed=0)(torch.ones_like(lr), 0)
    assert target.max() <= 1
    assert not Teacher(torch.nn.Conv2d(3, 3, 1), seed=0)(lr, 0).requires_grad
