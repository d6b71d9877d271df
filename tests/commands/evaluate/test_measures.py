"""Figures of equal images; the adapter for pyiqa, against a stand-in for the package."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ddnsr_cli.commands.evaluate.measures import ByPyiqa, Fidelity, LpipsMetric, Shot, load_pyiqa
from ddnsr_cli.errors import ConfigError, DataError, WeightsError
from tests.helpers.eval_files import write_lpips

CPU = torch.device("cpu")
FIGURES = {"musiq": "NR", "nrqm": "NR", "fid": "NR", "dists": "FR", "gone": "NR"}


class Model:
    def __init__(self, name):
        self.name, self.lower_better = name, name == "dists"

    def __call__(self, image, *reference):
        assert image.dtype == torch.float32
        assert image.shape[:2] == (1, 3)
        if self.name == "nrqm":
            return image.mean() / 0
        if min(image.shape[2:]) < 4:
            raise RuntimeError("Kernel size can't be greater\nthan actual input size.")
        return (image - (reference[0] if reference else 0)).abs().mean()


def create_metric(name, device):
    assert device == CPU
    if name == "gone":
        raise OSError("no network")
    return Model(name)


@pytest.fixture
def pyiqa(monkeypatch):
    listed = lambda metric_mode: [name for name, mode in FIGURES.items() if mode == metric_mode]  # noqa: E731
    package = SimpleNamespace(list_models=listed, create_metric=create_metric, __version__="9")
    monkeypatch.setitem(sys.modules, "pyiqa", package)


def shot(side=12):
    made = np.full((side, side, 3), 102, np.uint8)
    made[0] = 255  # beyond the border that counts
    return Shot(name="a.png", sr=(made, made // 2), lr=None, reference=np.full((side, side, 3), 51, np.uint8))


def load(*names, has_reference=True):
    return ByPyiqa(
        scorers=load_pyiqa(names, CPU, has_reference=has_reference), crop_px=1, reference_crop_px=1, device=CPU
    )


@pytest.mark.usefixtures("pyiqa")
def test_each_result_is_judged_alone_or_against_the_truth_within_the_border():
    measure = load("musiq", "dists", "musiq")
    assert [(one.key, one.higher_is_better) for one in measure.metrics] == [
        ("pyiqa_musiq", True),
        ("pyiqa_dists", False),
    ]
    found = measure(shot())
    assert found["pyiqa_musiq"] == pytest.approx([0.4, 0.2])
    assert found["pyiqa_dists"] == pytest.approx([0.2, 0.0], abs=1e-7)


@pytest.mark.usefixtures("pyiqa")
def test_only_what_needs_the_truth_is_judged_at_its_smaller_size():
    scorers = load_pyiqa(("musiq", "dists"), CPU, has_reference=True)
    measure = ByPyiqa(scorers=scorers, crop_px=4, reference_crop_px=1, device=CPU, at_lr_size=True)
    made = np.full((32, 32, 3), 102, np.uint8)
    made[4:28:2, 4:28] = 255  # within the border of the whole result; shrunk, nothing of it is left
    (whole,), (small,) = measure(Shot(name="a", sr=(made,), lr=None, reference=made[:8, :8])).values()
    assert whole == pytest.approx((0.4 + 1) / 2)
    assert small < 0.5


@pytest.mark.usefixtures("pyiqa")
@pytest.mark.parametrize(
    ("names", "error", "said"),
    [
        (("musik",), ConfigError, "musik is no figure of pyiqa. Is musiq meant"),
        (("zzz",), ConfigError, "list_models"),
        (("fid",), ConfigError, "--keep"),
        (("musiq", "dists"), ConfigError, "dists compares with the truth. Give the references with --hr"),
        (("gone",), WeightsError, "pyiqa cannot make gone: no network. Leave it out"),
    ],
)
def test_a_name_of_no_use_is_refused_before_the_work(names, error, said):
    with pytest.raises(error, match=said):
        load(*names, has_reference=False)


@pytest.mark.usefixtures("pyiqa")
def test_an_image_that_cannot_be_judged_is_named():
    with pytest.raises(DataError, match=r"^a\.png: pyiqa's musiq fails \(Kernel size can't be greater than actual"):
        load("musiq")(shot(side=5))
    with pytest.raises(DataError, match=r"^a\.png: pyiqa's nrqm is inf"):
        load("nrqm")(shot())


def test_equal_images_have_equal_figures_whatever_stands_beside_them(tmp_path):
    net = write_lpips(tmp_path, "alex")
    measure = Fidelity(crop_px=4, device=CPU, lpips=LpipsMetric(trunk="alex", origin="", distance=net))
    for seed in range(6):
        one, other, truth = np.random.default_rng(seed).integers(0, 256, (3, 128, 128, 3), np.uint8)
        alone = measure(Shot(name="a", sr=(one,), lr=None, reference=truth))
        beside = measure(Shot(name="a", sr=(other, one, other, one, other), lr=None, reference=truth))
        for key, (value,) in alone.items():
            assert beside[key][1] == beside[key][3] == value


def test_without_the_package_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(ConfigError, match=r"ddnsr\[pyiqa\]"):
        load_pyiqa(["musiq"], CPU, has_reference=True)
