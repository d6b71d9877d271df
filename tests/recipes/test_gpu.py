"""A run that travels: packed, trained through the driver, brought in pieces, and gone on with."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from forms import in_form
from pieces import MIB, Limits, join, read_state, split
from PIL import Image

from ddnsr_cli.cli.app import main
from ddnsr_cli.errors import TrainingError
from ddnsr_cli.nets.vgg19 import BLOCK_CHANNELS
from ddnsr_cli.weights.checkpoint import load_degrader, load_sr_net
from tests.helpers import compiler_stand_in
from tests.helpers.joint_run import vgg_file
from tests.helpers.small_training import small_training

SIZES = {"--features": 4, "--blocks": 1, "--growth": 2, "--batch": 2, "--crop": 32, "--workers": 0, "--log-every": 1}
SMALL = [str(word) for option in SIZES.items() for word in option] + ["--device", "cpu"]
RECIPES = Path(__file__).parents[2] / "recipes"
FULL_CHANNELS = dict(BLOCK_CHANNELS)  # for a process of its own, where networks have their size


def script(*given, code=RECIPES.parent):
    """A script of the recipes as a user runs it, in a folder with the code: one thread, nothing of this process."""
    environment = os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", *map(str, given)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=code, timeout=240, check=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Clean images, noisy ones of other scenes, a random VGG19."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :128]
    for number in range(3):
        smooth = np.stack([x + 20 * number, y + 40, 128 + 60 * np.sin(x / (4 + number))], axis=2)
        noisy = smooth[:72, :72][::-1] + rng.normal(0, 12, (72, 72, 3))
        for name, pixels in (("hr", smooth), ("lr", noisy)):
            (folder / name / "more").mkdir(parents=True, exist_ok=True)
            path = folder / name / ("more" if number else "") / f"{number}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    vgg_file(folder / "vgg.safetensors", widths=FULL_CHANNELS)
    vgg_file(folder / "narrow.safetensors")
    return folder


def words(data, *more, vgg="narrow.safetensors"):
    joint = ["--track", "2", "--lite", "--lr", data / "lr", "--vgg", data / vgg]
    given = [*joint, "--perceptual", "conv3_4", "--offline", "--hr", data / "hr"]
    return [*given, *SMALL, *more]


def train_here(run, *given):
    """`ddnsr train` inside this process: 0, or its exit status."""
    before, sys.argv = sys.argv, ["ddnsr", "train", *map(str, given), "-o", str(run)]
    try:
        main()
    except SystemExit as end:
        return end.code or 0
    finally:
        sys.argv = before
    return 0


@pytest.fixture(scope="module", autouse=True)
def small_networks():
    """What trains in this process is small; see tests/helpers/small_training.py."""
    with pytest.MonkeyPatch.context() as patch:
        small_training(patch.setitem)
        yield


@pytest.fixture(scope="module")
def two_steps(data, tmp_path_factory):
    """A run of two steps, and its pieces."""
    folder = tmp_path_factory.mktemp("two")
    assert train_here(folder / "run", *words(data, "--steps", 2)) == 0
    assert split(folder / "run", folder / "pieces", Limits()) == "whole"
    return folder


def test_the_exact_form_goes_on_to_the_same_bytes(two_steps, data, tmp_path):
    assert join(two_steps / "pieces", tmp_path / "on") == "whole"
    for run in ("on", "at-once"):
        assert train_here(tmp_path / run, *words(data, "--steps", 3)) == 0
    (went_on, header, _), (at_once, same_header, _) = (read_state(tmp_path / run) for run in ("on", "at-once"))
    assert json.loads(header["ddnsr_run"]) == json.loads(same_header["ddnsr_run"])
    for name, tensor in at_once.items():
        np.testing.assert_array_equal(went_on[name], tensor, err_msg=name)


@pytest.mark.parametrize(("most_mib", "form"), [(0.2, "light"), (0.06, "bare")])
def test_smaller_forms_go_on_too(two_steps, data, tmp_path, most_mib, form):
    limits = Limits(piece_mib=0.02, most_mib=most_mib)
    assert split(two_steps / "run", tmp_path / "pieces", limits) == form
    sizes = [path.stat().st_size for path in (tmp_path / "pieces").iterdir()]
    assert max(sizes) <= 0.02 * MIB
    assert sum(sizes) <= most_mib * MIB
    assert len(sizes) > 1
    assert join(tmp_path / "pieces", tmp_path / "run") == form
    assert train_here(tmp_path / "run", *words(data, "--steps", 3)) == 0
    rows = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "cycle" in row] == [1, 2, 3]


def test_joined_weights_are_models(two_steps, tmp_path):
    join(two_steps / "pieces", tmp_path / "whole")
    split(two_steps / "run", tmp_path / "p", Limits(most_mib=0.2))
    join(tmp_path / "p", tmp_path / "light")
    for load, name in ((load_sr_net, "sr.safetensors"), (load_degrader, "degrader.safetensors")):
        (net, header), (same, same_header) = (
            load(tmp_path.parent / p / name) for p in (two_steps / "run", tmp_path / "whole")
        )
        assert header == same_header
        near, _ = load(tmp_path / "light" / name)
        for key, weight in net.state_dict().items():
            assert (same.state_dict()[key] == weight).all()
            assert (near.state_dict()[key] - weight).abs().max() < 1e-3 * max(1, float(weight.abs().max()))


def test_light_keeps_names_shapes_and_nearly_the_values(two_steps, tmp_path):
    split(two_steps / "run", tmp_path / "p", Limits(most_mib=0.2))
    join(tmp_path / "p", tmp_path / "run")
    exact, light = read_state(two_steps / "run")[0], read_state(tmp_path / "run")[0]
    assert {name: tensor.shape for name, tensor in exact.items()} == {n: t.shape for n, t in light.items()}
    assert {tensor.dtype for tensor in light.values()} <= {tensor.dtype for tensor in exact.values()}
    for name in ("nets.disc_lr.features.0.weight", "nets.disc_hr.layers.0.weight"):
        error = np.abs(light[name] - exact[name]).max(axis=(1, 2, 3))
        assert (error <= np.abs(exact[name]).max(axis=(1, 2, 3)) / 250).all()
    squares = next(name for name in exact if name.endswith("exp_avg_sq") and exact[name].ndim == 4)
    np.testing.assert_allclose(light[squares].mean(axis=(1, 2, 3)), exact[squares].mean(axis=(1, 2, 3)), rtol=1e-4)
    assert (light[squares] >= 0).all()
    for name, tensor in exact.items():
        if tensor.ndim < 2 and not name.startswith("nets."):
            np.testing.assert_array_equal(light[name], tensor, err_msg=name)


def test_an_unknown_form_is_a_mistake_of_ours():
    with pytest.raises(ValueError, match="tiny"):
        in_form({}, "tiny")


@pytest.mark.parametrize("kind", ["--pretrain", "--paired --loss perceptual=0 --discriminator patchgan"])
def test_a_run_on_pairs_travels_in_every_form(data, tmp_path, kind):
    given = [*kind.split(), "--hr", data / "hr", *SMALL, "--steps"]
    assert train_here(tmp_path / "run", *given, 1) == 0
    tensors = read_state(tmp_path / "run")[0]
    most = 60.0
    for form in ("whole", "light", "bare"):  # each is chosen where the one before is a little too large
        assert split(tmp_path / "run", tmp_path / form, Limits(most_mib=most)) == form
        most = sum(piece.stat().st_size - 1 for piece in (tmp_path / form).iterdir()) / MIB
        assert join(tmp_path / form, tmp_path / f"run-{form}") == form
        kept = {name for name in tensors if form != "bare" or not name.startswith("adam.")}
        assert read_state(tmp_path / f"run-{form}")[0].keys() == kept
    assert train_here(tmp_path / "run-bare", *given, 2) == 0


def test_a_missing_a_damaged_and_a_foreign_piece_are_refused(two_steps, tmp_path):
    split(two_steps / "run", tmp_path / "p", Limits(piece_mib=0.02, most_mib=0.2))
    first, second = sorted((tmp_path / "p").iterdir())[:2]
    content = first.read_bytes()
    first.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(TrainingError, match="damaged"):
        join(tmp_path / "p", tmp_path / "run")
    first.write_bytes(content)
    second.unlink()
    with pytest.raises(TrainingError, match="Fetch the others"):
        join(tmp_path / "p", tmp_path / "run")
    (tmp_path / "p/run.00of01.0123456789abcdef.part").write_bytes(b"")
    with pytest.raises(TrainingError, match="2 runs"):
        join(tmp_path / "p", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten(two_steps):
    with pytest.raises(TrainingError, match="already holds a run"):
        join(two_steps / "pieces", two_steps / "run")


def test_what_cannot_fit_is_reported(two_steps, tmp_path):
    with pytest.raises(TrainingError, match="the link carries"):
        split(two_steps / "run", tmp_path / "p", Limits(most_mib=0.01))
    done = script(RECIPES / "gpu/pieces.py", "split", tmp_path / "nothing", tmp_path / "p")
    assert done.returncode == 10
    assert "Has the run saved yet?" in done.stderr


def test_a_pack_holds_all_that_a_run_needs(data, tmp_path):
    pack, weights = tmp_path / "pack", f"vgg.safetensors={data / 'vgg.safetensors'}"
    images = [word for name in ("hr", "lr") for word in ("--images", f"{name}={data / name}")]
    done = script(RECIPES / "gpu/pack.py", "-o", pack, *images, "--file", weights)
    assert done.returncode == 0, done.stderr
    for name in ("0", "more/1"):
        with Image.open(data / f"lr/{name}.png") as before, Image.open(pack / f"lr/{name}.webp") as packed_image:
            np.testing.assert_array_equal(np.asarray(before), np.asarray(packed_image))
    shutil.copy(compiler_stand_in.__file__, pack / "sitecustomize.py")  # Python runs it first: see there
    given = ["--run", "run", "--out", "out", "--seconds", 200, "--reserve", 20]
    train = words(pack, "--steps", 1, vgg="vgg.safetensors")
    done = script("recipes/gpu/train.py", *given, "--", *train, code=pack)
    assert done.returncode == 0, done.stderr
    assert "brought: whole" in done.stderr
    assert list((pack / "out").glob("*.part"))


def test_a_pack_beyond_the_limit_is_not_made(data, tmp_path):
    given = ["-o", tmp_path / "pack", "--images", f"hr={data / 'hr'}", "--most-mib", 0.01]
    done = script(RECIPES / "gpu/pack.py", *given)
    assert done.returncode == 2
    assert "MiB, more than 0.01 (ddnsr_cli " in done.stderr
    assert not (tmp_path / "pack").exists()


def test_images_can_be_packed_smaller(data, tmp_path):
    both = ["--images", f"a={data / 'lr'}", "--images", f"b={data / 'lr'}", "--quality", "b=50"]
    assert script(RECIPES / "gpu/pack.py", "-o", tmp_path / "pack", *both).returncode == 0
    large, small = (sum(path.stat().st_size for path in (tmp_path / "pack" / name).rglob("*.webp")) for name in "ab")
    assert small < large / 3
