"""What `upscale`, `train`, its checks, `degrade` and `eval` read from a file is the same, and so is a refusal."""

import random

import numpy as np
import pytest

from ddnsr_cli.commands.degrade.options import DegradeListener, DegradeOptions
from ddnsr_cli.commands.degrade.run import degrade_images
from ddnsr_cli.commands.evaluate.dataset import open_sample
from ddnsr_cli.commands.train.run import image_tensor
from ddnsr_cli.commands.upscale.jobs import Job
from ddnsr_cli.commands.upscale.options import UpscaleOptions
from ddnsr_cli.commands.upscale.worker import prepare
from ddnsr_cli.data.targets import Refusal, read_or_refuse
from ddnsr_cli.data.validation.image_stats import ImageFacts, Limits, examine_pixels
from ddnsr_cli.data.validation.report import Trouble
from ddnsr_cli.errors import DataError, DdnsrError, ImageReadError
from ddnsr_cli.io.image import rgb8
from ddnsr_cli.io.read import read_rgb
from ddnsr_cli.reports.results import Sample
from tests.fuzz.mutations import mutated
from tests.fuzz.seed_files import images
from tests.fuzz.truth import scene
from tests.helpers.image_files import encoded
from tests.io.test_read_damaged import FILES

SOUND = images()
OTHERS = {
    "text.png": b"no image at all",
    "empty.jpg": b"",
    "page.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9",
    "cut.jpg": SOUND["scans.jpg"][:400],
    "cut.png": SOUND["exif.png"][:-60],
    "no end mark.jpg": SOUND["full.jpg"][:-2],
}
DAMAGED = 150


def upscaled(path):
    return rgb8(prepare(Job(source=path, target=path.with_name("out.png")), UpscaleOptions(), 4).image)


def trained_on(path):
    read = read_or_refuse(path, 1)
    if isinstance(read, Refusal):
        raise ImageReadError(read.reason)
    return read


def validated(path):
    return np.rint(image_tensor(read_rgb(path))[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)


def evaluated(path):
    try:
        return open_sample(Sample(name="a", lr=None, hr=path)).hr
    except DataError:  # it was read, and is transparent, which no metric can judge
        return None


def examined(path):
    facts = examine_pixels(ImageFacts(path=path), Limits())
    if facts.damage is not None:
        raise ImageReadError(facts.damage)


READERS = {"train": trained_on, "validation": validated, "eval": evaluated, "checks": examined}


def outcome(read, path):
    """Pixels, None for pixels that are not handed out, or the one line of the refusal."""
    try:
        return read(path)
    except ImageReadError as error:
        return str(error)


def assert_agree(path):
    first = outcome(upscaled, path)
    for name, read in READERS.items():
        other = outcome(read, path)
        if isinstance(first, str) or isinstance(other, str):
            assert (other, "\n" in first) == (first, False), name
        elif other is not None:
            assert other.dtype == np.uint8
            np.testing.assert_array_equal(other, first, err_msg=name)
    return first


@pytest.mark.parametrize("name", [*SOUND, *OTHERS])
def test_all_commands_read_the_same_pixels_or_refuse_by_the_same_line(tmp_path, name):
    path = tmp_path / name
    path.write_bytes((SOUND | OTHERS)[name])
    assert isinstance(assert_agree(path), str) == (name in OTHERS and name != "no end mark.jpg")


def test_damaged_files_are_the_same_for_all(tmp_path):
    refused = 0
    for number in range(DAMAGED):
        chance = random.Random(number)
        name = chance.choice(sorted(SOUND))
        path = tmp_path / f"{number}-{name}"
        path.write_bytes(mutated(SOUND[name], list(SOUND.values()), chance))
        refused += isinstance(assert_agree(path), str)
    assert DAMAGED / 4 < refused < DAMAGED


def test_damage_that_can_be_read_is_told_by_all(tmp_path):
    path, data = tmp_path / "holed.jpg", encoded(scene(random.Random(1)), "JPEG", quality=95)
    middle = len(data) // 2
    path.write_bytes(data[:middle] + bytes(512) + data[middle + 512 :])
    (note,) = prepare(Job(source=path, target=path.with_name("out.png")), UpscaleOptions(), 4).notes
    assert "bytes of its data are zeros, from row " in note
    assert (Trouble.DAMAGED, f"is damaged: {note}.") in examine_pixels(ImageFacts(path=path), Limits()).oddities
    with pytest.raises(DataError, match="is damaged, so that no metric can judge it"):
        open_sample(Sample(name="a", lr=None, hr=path))


def test_degrade_takes_the_same_pixels_and_refuses_by_the_same_line(tmp_path):
    """As the HR images of the pairs, which are cut to a multiple of 4."""
    folder = tmp_path / "in"
    folder.mkdir()
    bad = {name: data for name, data in OTHERS.items() if name != "no end mark.jpg"}  # it is sound, and too small
    sources = {f"{number}.{kind.split()[0]}": data for number, (kind, data) in enumerate(FILES.items())}
    for name, data in (sources | bad).items():
        (folder / name).write_bytes(data)
    errors, made = [], []
    silent = {"progress": lambda done, total: None, "note": lambda sentence: None, "download": lambda done, total: None}
    listener = DegradeListener(failed=lambda error: errors.append(str(error)), **silent)
    with pytest.raises(DdnsrError):  # some were refused
        made.extend(degrade_images([folder], tmp_path / "out", DegradeOptions(method="bicubic", workers=1), listener))
    refused = [result for path in sorted(folder.iterdir()) if isinstance(result := outcome(upscaled, path), str)]
    assert len(refused) == len(bad)
    assert sorted(errors) == sorted(refused)
    for pair in tmp_path.glob("out/hr/*.png"):
        (source,) = folder.glob(f"{pair.stem}.*")
        hr = trained_on(pair)
        np.testing.assert_array_equal(hr, upscaled(source)[: hr.shape[0], : hr.shape[1]], err_msg=source.name)
    assert len(list(tmp_path.glob("out/hr/*.png"))) == len(sources)
