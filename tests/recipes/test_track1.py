"""The track 1 source set: the noise is as large and as colored as asked."""

import sys

import numpy as np
import pytest

pytest.importorskip("scipy")

import image_files
from track1_source import Noise, noisy_small

from ddnsr_cli.errors import ConfigError, DataError


def correlations(noise):
    spread = noise.var()
    return (
        (noise[:, 1:] * noise[:, :-1]).mean() / spread,
        (noise[1:] * noise[:-1]).mean() / spread,
        np.corrcoef(noise.reshape(-1, 3).T)[0, 1],
    )


@pytest.mark.parametrize(("neighbors", "channels"), [(0.35, 0.4), (0.0, 0.0), (0.6, 0.9)])
def test_noise_has_the_size_and_the_correlations_asked_for(neighbors, channels):
    wanted = Noise(sigma=8.0, neighbors=neighbors, channels=channels)
    noise = wanted.draw((400, 400), np.random.default_rng(0))
    assert noise.std() == pytest.approx(8, rel=0.02)
    assert correlations(noise) == pytest.approx((neighbors, neighbors, channels), abs=0.02)


def test_a_result_is_a_quarter_of_the_source_with_that_noise():
    source = np.full((400, 600, 3), 120, np.uint8)
    image = noisy_small(source, Noise(), np.random.default_rng(0))
    assert image.shape == (99, 149, 3)
    assert image.dtype == np.uint8
    assert image.std() == pytest.approx(8, rel=0.03)
    assert image.mean() == pytest.approx(120, abs=0.2)


@pytest.mark.parametrize("wrong", [{"sigma": -1}, {"neighbors": 0.8}, {"channels": 1.5}, {"channels": -0.1}])
def test_noise_that_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigError, match="Noise has a sigma"):
        Noise(**wrong)


def test_a_file_that_is_not_there_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(SystemExit) as ended:
        image_files.run_script(lambda _words: (tmp_path / "none").read_text())
    assert ended.value.code == DataError.exit_code
    assert capsys.readouterr().err == f"error: {tmp_path}/none: No such file or directory. Check what was named.\n"
