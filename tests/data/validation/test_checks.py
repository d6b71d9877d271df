import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.data.validation.checks import CheckOptions, check_images
from ddnsr_cli.data.validation.report import Role, Severity, Trouble
from ddnsr_cli.errors import ConfigError, DataError
from tests.helpers.drawn_images import drawn_image, jpeg, noisy, resized

ONE_THREAD = CheckOptions(threads=1)


def png_of_16_bits(path, image):
    """Pillow writes no 16-bit color."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = image.shape[:2]
    rows = (image.astype(">u2") * 257).reshape(height, -1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def clean():
    """Ten images."""
    return [drawn_image(seed) for seed in range(10)]


@pytest.fixture
def folders(tmp_path, clean):
    """(hr, lr): two clean images, two noisy ones of other scenes at the size of LR images."""
    hr, lr = tmp_path / "hr", tmp_path / "lr"
    hr.mkdir()
    lr.mkdir()
    for number in (0, 1):
        Image.fromarray(clean[number]).save(hr / f"{number}.png")
        Image.fromarray(noisy(resized(clean[number + 2], 0.4), 6)).save(lr / f"{number}.png")
    return hr, lr


def only(report):
    """(severity, trouble, role, file name) of each finding."""
    return [(found.severity, found.trouble, found.role, found.path.name) for found in report.findings]


def test_good_sets_give_no_findings(folders):
    report = check_images(*folders, options=ONE_THREAD)
    assert report.findings == ()
    assert report.summary() == (
        "hr: 2 images, 2 of them measured: nothing found",
        "lr: 2 images, 2 of them measured: nothing found",
    )


@pytest.mark.parametrize(
    ("spoil", "trouble", "number"),
    [
        (lambda image: noisy(image, 5), Trouble.NOISY, r"by [23]\.\d levels"),
        (lambda image: jpeg(noisy(image, 1), 30), Trouble.BLOCKY, r"\d\.\d\d levels more"),
        (lambda image: resized(resized(image, 0.5), 2), Trouble.UPSCALED, r"has 0\.\d\d% of"),
        (lambda image: image[:100], Trouble.SMALL, "256x100 pixels; a side needs 128"),
        (lambda image: image[..., :1].repeat(3, axis=2), Trouble.GRAY, "by 0 levels"),
    ],
)
def test_a_poor_hr_image_is_named_with_the_number(folders, clean, spoil, trouble, number):
    hr, lr = folders
    Image.fromarray(spoil(clean[5])).save(hr / "5.png")
    (found,) = check_images(hr, lr, options=ONE_THREAD).findings
    severity = Severity.ERROR if trouble is Trouble.SMALL else Severity.WARNING
    assert (found.severity, found.trouble, found.role, found.path) == (severity, trouble, Role.HR, hr / "5.png")
    assert found.sentence.startswith(f"{hr / '5.png'} ")
    assert re.search(number, found.sentence)
    assert "\n" not in found.sentence


def test_lr_may_be_noisy_and_blocky_but_not_scaled_up_or_tiny(folders, clean):
    hr, lr = folders
    Image.fromarray(jpeg(noisy(clean[5], 8), 40)).save(lr / "fine.png")
    Image.fromarray(resized(noisy(resized(clean[6], 0.5), 8), 2)).save(lr / "large.png")
    Image.fromarray(noisy(clean[7], 8)[:31]).save(lr / "tiny.png")
    assert only(check_images(hr, lr, options=ONE_THREAD)) == [
        ("warning", "up-scaled", "lr", "large.png"),
        ("error", "too small", "lr", "tiny.png"),
    ]


def test_gray_files_16_bits_and_transparency_are_reported(folders, clean):
    hr, lr = folders
    Image.fromarray(clean[4]).convert("L").save(hr / "a_gray.png")
    png_of_16_bits(hr / "b_deep.png", clean[5])
    Image.fromarray(clean[6][..., 0].astype(np.uint16) * 257).save(hr / "c_deep_gray.png")
    glass = Image.fromarray(clean[7]).convert("RGBA")
    glass.save(hr / "d_opaque.png")
    glass.paste((9, 9, 9, 128), (0, 0, 128, 128))
    glass.save(hr / "e_glass.png")
    report = check_images(hr, lr, options=ONE_THREAD)
    assert only(report) == [
        ("warning", "gray", "hr", "a_gray.png"),
        ("warning", "16 bits", "hr", "b_deep.png"),
        ("warning", "16 bits", "hr", "c_deep_gray.png"),
        ("warning", "gray", "hr", "c_deep_gray.png"),
        ("warning", "transparent", "hr", "e_glass.png"),
    ]
    assert "25.0% of its pixels" in report.findings[-1].sentence
    assert report.summary()[0] == "hr: 7 images, 7 of them measured: 2 gray, 2 16 bits, 1 transparent"


def test_files_that_cannot_be_read_are_errors_by_header_and_by_pixels(folders):
    hr, lr = folders
    good = (hr / "0.png").read_bytes()
    (hr / "cut.png").write_bytes(good[: len(good) // 2])
    (lr / "text.jpg").write_text("no image")
    report = check_images(hr, lr, options=ONE_THREAD)
    assert only(report) == [
        ("error", "unreadable", "hr", "cut.png"),
        ("error", "unreadable", "lr", "text.jpg"),
    ]
    assert report.unusable == {hr / "cut.png", lr / "text.jpg"}
    assert report.warnings == ()
    assert report.summary()[1] == "lr: 3 images, 2 of them measured: 1 unreadable"


def test_repeated_images_are_found_within_and_across_sets(folders, clean):
    hr, lr = folders
    (hr / "copy.png").write_bytes((hr / "0.png").read_bytes())
    Image.fromarray(jpeg(resized(clean[1], 0.75), 60)).save(hr / "like.webp", quality=80)
    Image.fromarray(noisy(resized(clean[1], 0.25), 8)).save(lr / "tenth.png")
    found = [found for found in check_images(hr, lr, options=ONE_THREAD).findings if found.trouble is Trouble.REPEATED]
    assert [(one.path.name, one.role) for one in found] == [
        ("copy.png", "hr"),
        ("like.webp", "hr"),
        ("tenth.png", "lr"),
    ]
    assert "copy.png has the same bytes as" in found[0].sentence
    assert f"like.webp looks like {hr / '1.png'}: " in found[1].sentence
    assert "of the hr set: " in found[2].sentence


def test_where_pairs_are_compared_an_hr_image_may_come_again(folders, clean):
    hr = folders[0]
    (hr / "copy.png").write_bytes((hr / "0.png").read_bytes())
    Image.fromarray(jpeg(resized(clean[1], 0.75), 60)).save(hr / "like.webp", quality=80)
    for pairs_follow, repeated in ((False, ["copy.png", "like.webp"]), (True, ["like.webp"])):
        report = check_images(hr, None, options=CheckOptions(threads=1, pairs_follow=pairs_follow))
        assert [one.path.name for one in report.findings if one.trouble is Trouble.REPEATED] == repeated


def test_folders_given_twice_or_one_in_the_other_are_an_error(folders, tmp_path):
    hr, lr = folders
    (tmp_path / "link").symlink_to(hr)
    for one, other in ((hr, hr), (hr, tmp_path / "link"), (tmp_path, lr), (hr, tmp_path)):
        (found,) = check_images(one, other, options=ONE_THREAD).findings
        assert (found.severity, found.trouble, found.path) == (Severity.ERROR, Trouble.FOLDERS, one)
    assert "is the same folder as" in check_images(hr, hr).findings[0].sentence


@pytest.fixture
def ten_each(tmp_path, clean):
    """(clean folder, noisy folder) of ten images."""
    for name in ("clean", "noisy"):
        (tmp_path / name).mkdir()
    for number, image in enumerate(clean):
        Image.fromarray(image).save(tmp_path / "clean" / f"{number}.png")
        Image.fromarray(noisy(image[::-1, :, ::-1], 6)).save(tmp_path / "noisy" / f"{number}.png")
    return tmp_path / "clean", tmp_path / "noisy"


def test_swapped_sets_are_noticed_and_right_ones_are_not(ten_each):
    clean_folder, noisy_folder = ten_each
    assert check_images(clean_folder, noisy_folder, options=ONE_THREAD).findings == ()
    report = check_images(noisy_folder, clean_folder, options=ONE_THREAD)
    (found,) = (found for found in report.findings if found.trouble is Trouble.SWAPPED)
    assert "100% of the HR images are noisy and 0% of the LR ones" in found.sentence
    assert found.path == noisy_folder


def test_a_sample_is_decoded_and_the_rest_told_by_header(ten_each):
    hr, lr = ten_each
    (hr / "text.png").write_text("no image")
    ticks = []
    report = check_images(
        hr,
        lr,
        options=CheckOptions(threads=1, sample=4, least_hr_px=300),
        on_image=lambda done, total: ticks.append((done, total)),
    )
    assert ticks == [(number, 8) for number in range(1, 9)]
    assert [(checked.images, checked.decoded) for checked in report.checked.values()] == [(11, 4), (10, 4)]
    assert report.summary()[0] == "hr: 11 images, 4 of them measured: 10 too small, 1 unreadable"


def test_threads_do_not_change_the_report(ten_each):
    noisy_folder, clean_folder = ten_each[::-1]
    reports = [
        check_images(noisy_folder, clean_folder, options=CheckOptions(threads=threads, sample=7)) for threads in (1, 4)
    ]
    assert reports[0] == reports[1]
    assert reports[0].findings


def test_the_source_alone_can_be_checked(folders):
    report = check_images(None, folders[1], options=ONE_THREAD)
    assert list(report.checked) == [Role.LR]
    assert report.findings == ()


def test_a_missing_folder_and_odd_options_are_refused(folders, tmp_path):
    with pytest.raises(DataError, match="not a folder"):
        check_images(tmp_path / "none", folders[1])
    with pytest.raises(ConfigError, match="sample is at least 1"):
        CheckOptions(sample=0)
