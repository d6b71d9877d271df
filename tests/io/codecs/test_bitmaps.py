"""Alpha by one rule: declared it is kept, undeclared it counts where it varies; and each is told."""

import struct
from io import BytesIO

import numpy as np
import pytest
import tifffile

from ddnsr_cli.errors import ImageReadError
from ddnsr_cli.io.read import read_image
from tests.helpers.image_files import encoded, noise, pillow, png_chunk

COLORS = noise(6, 8, 3)
VARIES = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
READ_AS_ALPHA = "its last channel, which it does not declare as alpha, was read as alpha"
ALL_CLEAR = "its alpha channel is clear everywhere, and so is the result"


def rgba(alpha):
    return np.dstack([COLORS, alpha])


def tga(alpha, *, attribute_bits, alpha_type=None):
    data = bytearray(encoded(pillow(rgba(alpha)), "TGA"))
    if data.endswith(b"TRUEVISION-XFILE.\0"):
        del data[-26:]
    data[17] = data[17] & 0xF0 | attribute_bits
    if alpha_type is not None:
        area = bytearray(495)
        area[494] = alpha_type
        data += area + struct.pack("<II", len(data), 0) + b"TRUEVISION-XFILE.\0"
    return bytes(data)


def bmp(alpha, *, masks=None, down=False):
    rows = rgba(alpha)[..., [2, 1, 0, 3]]
    body = np.ascontiguousarray(rows if down else rows[::-1]).tobytes()
    head = struct.pack("<IiiHHIIiiII", 40, 8, -6 if down else 6, 1, 32, 3 if masks else 0, 0, 0, 0, 0, 0)
    head += struct.pack("<III", *masks) if masks else b""
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(body), 0, 0, 14 + len(head)) + head + body


def tiff(alpha, *, extra, dtype=np.uint8, **options):
    """extra: the value of ExtraSamples; None: the tag is not there."""
    file = BytesIO()
    samples = rgba(alpha).astype(dtype) * (257 if dtype == np.uint16 else 1)
    if options.get("planarconfig") == "separate":
        samples = np.moveaxis(samples, 2, 0)
    tifffile.imwrite(file, samples, photometric="rgb", extrasamples=[extra or 0], metadata=None, **options)
    data = file.getvalue()
    unused = struct.pack("<HHI", 268, 3, 1)
    return data.replace(struct.pack("<HHI", 338, 3, 1), unused) if extra is None else data


def jp2(alpha, *, declared):
    data = encoded(pillow(rgba(alpha)), "JPEG2000", irreversible=False, num_resolutions=1)
    return data if declared else data.replace(b"cdef", b"free")


def webp(alpha, *, lossless):
    """One whose header says that it has no alpha."""
    data = bytearray(encoded(pillow(rgba(alpha)), "WEBP", lossless=lossless, exact=True, quality=100))
    data[20] &= ~0x10
    if lossless:
        data[data.index(b"VP8L") + 12] &= ~0x10
    return bytes(data)


UNDECLARED = {
    "TGA": lambda alpha: tga(alpha, attribute_bits=0),
    "TGA, undefined": lambda alpha: tga(alpha, attribute_bits=8, alpha_type=2),
    "BMP": bmp,
    "BMP down": lambda alpha: bmp(alpha, down=True),
    "BMP masks": lambda alpha: bmp(alpha, masks=(0xFF0000, 0xFF00, 0xFF)),
    "TIFF": lambda alpha: tiff(alpha, extra=None),
    "TIFF, unspecified": lambda alpha: tiff(alpha, extra=0),
    "TIFF 16": lambda alpha: tiff(alpha, extra=None, dtype=np.uint16),
    "TIFF 16, unspecified": lambda alpha: tiff(alpha, extra=0, dtype=np.uint16),
    "TIFF planes": lambda alpha: tiff(alpha, extra=0, planarconfig="separate"),
    "JPEG 2000": lambda alpha: jp2(alpha, declared=False),
    "WebP": lambda alpha: webp(alpha, lossless=True),
}
DECLARED = {
    "TGA": lambda alpha: tga(alpha, attribute_bits=8),
    "TGA, useful": lambda alpha: tga(alpha, attribute_bits=0, alpha_type=3),
    "TIFF": lambda alpha: tiff(alpha, extra=2),
    "TIFF 16": lambda alpha: tiff(alpha, extra=2, dtype=np.uint16),
    "PNG": lambda alpha: encoded(pillow(rgba(alpha)), "PNG"),
    "WebP": lambda alpha: encoded(pillow(rgba(alpha)), "WEBP", lossless=True, exact=True),
    "AVIF": lambda alpha: encoded(pillow(rgba(alpha)), "AVIF"),
    "QOI": lambda alpha: encoded(pillow(rgba(alpha)), "QOI"),
    "JPEG 2000": lambda alpha: jp2(alpha, declared=True),
}


@pytest.fixture
def read(tmp_path):
    """`read("TGA", data)`: the image of a file of these bytes; a TGA is told by its name."""

    def run(kind, data):
        path = tmp_path / ("in.tga" if kind.startswith("TGA") else "in.bin")
        path.write_bytes(data)
        return read_image(path)

    return run


def eighths(samples):
    return samples // 257 if samples.dtype == np.uint16 else samples


@pytest.mark.parametrize("kind", UNDECLARED)
def test_undeclared_alpha_that_varies_is_kept_and_told(read, kind):
    image = read(kind, UNDECLARED[kind](VARIES))
    assert image.notes == (READ_AS_ALPHA,)
    assert np.array_equal(eighths(image.alpha), VARIES)
    assert np.array_equal(eighths(image.pixels), COLORS)


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("kind", UNDECLARED)
def test_undeclared_alpha_that_is_the_same_everywhere_is_none(read, kind, level):
    image = read(kind, UNDECLARED[kind](np.full_like(VARIES, level)))
    assert image.alpha is None
    assert np.array_equal(eighths(image.pixels), COLORS)
    assert image.notes == (("1 channel beyond its colors was left out",) if kind.startswith("TIFF") else ())


@pytest.mark.parametrize("kind", DECLARED)
def test_declared_alpha_is_kept_and_one_that_is_clear_is_told(read, kind):
    image = read(kind, DECLARED[kind](VARIES))
    assert image.notes == ()
    assert np.abs(eighths(image.alpha).astype(int) - VARIES).max() <= (4 if kind == "AVIF" else 0)
    clear = read(kind, DECLARED[kind](np.zeros_like(VARIES)))
    assert clear.notes == (ALL_CLEAR,)
    assert not clear.alpha.any()


def test_a_tga_that_says_it_has_no_alpha_has_none(read):
    assert read("TGA", tga(VARIES, attribute_bits=8, alpha_type=0)).alpha is None


@pytest.mark.parametrize("upward", [0, 0x20])
def test_zeros_in_the_place_of_samples_of_a_tga_are_told(read, upward):
    pixels = np.maximum(noise(60, 300, 3), 1).tobytes()
    head = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 300, 60, 24, upward)
    assert read("TGA", head + pixels).damage == ""
    assert "from row 33 on" in read("TGA", head + pixels[:30_150] + bytes(len(pixels) - 30_150)).damage


def test_alpha_multiplied_into_the_colors_of_a_tga_is_divided_out(read):
    image = read("TGA", tga(np.full_like(VARIES, 128), attribute_bits=8, alpha_type=4))
    assert np.array_equal(image.pixels, np.minimum(np.rint(COLORS * np.float32(255 / 128)), 255).astype(np.uint8))


def test_an_icon_whose_alpha_is_clear_is_opaque_and_only_images_in_the_file_count(read):
    icon = encoded(pillow(rgba(np.zeros_like(VARIES))), "ICO", bitmap_format="bmp", sizes=[(8, 6)])
    assert read("ICO", icon).alpha is None
    promised = struct.pack("<BBBBHHII", 4, 4, 0, 0, 1, 32, 400, 99_999)
    at = 6 + 16
    more = bytearray(icon[:at] + promised + icon[at:])
    more[4] = 2
    struct.pack_into("<I", more, 6 + 12, struct.unpack_from("<I", more, 6 + 12)[0] + 16)
    assert read("ICO", bytes(more)).notes == ()


@pytest.mark.parametrize("file_format", ["png", "bmp"])
def test_of_an_icon_with_clear_alpha_the_mask_counts_unless_it_is_a_png(read, file_format):
    icon = bytearray(encoded(pillow(rgba(np.zeros_like(VARIES))), "ICO", bitmap_format=file_format, sizes=[(8, 6)]))
    if file_format == "bmp":
        icon += bytes((0b11110000, 0, 0, 0)) * 6
        struct.pack_into("<I", icon, 14, len(icon) - 22)
    image = read("ICO", bytes(icon))
    opaque = np.arange(8) >= 4 if file_format == "bmp" else np.zeros(8, bool)
    assert np.array_equal(image.alpha, np.broadcast_to(opaque * 255, (6, 8)))
    assert image.notes == (() if file_format == "bmp" else (ALL_CLEAR,))


def test_lossy_alpha_that_the_header_of_a_webp_denies_counts(read):
    image = read("WebP", webp(VARIES, lossless=False))
    assert (image.notes, np.abs(image.alpha.astype(int) - VARIES).max()) == ((READ_AS_ALPHA,), 0)


@pytest.mark.parametrize("bit", [0, 1, None])
def test_the_one_bit_of_a_tga_counts_where_it_varies(read, bit):
    pixels = np.full((6, 8), 0x7C00, "<u2") | (np.arange(8) >= 4 if bit is None else bit) * 0x8000
    head = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 8, 6, 16, 0x21)
    image = read("TGA", head + pixels.astype("<u2").tobytes())
    assert np.array_equal(image.pixels[0, 0], (255, 0, 0))
    assert (image.alpha is None) == (bit is not None)
    assert len(image.notes) == (bit is None)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", ["plain", "white is 0", "multiplied", "tiles", "strips"])
def test_gray_and_alpha_in_planes_of_their_own(read, kind, dtype):
    gray, top = COLORS[..., 0], np.iinfo(dtype).max
    alpha = np.maximum(VARIES, 200) if kind == "multiplied" else VARIES
    colors = np.rint(gray * (alpha / 255)) if kind == "multiplied" else 255 - gray if kind == "white is 0" else gray
    options = {"tiles": {"tile": (16, 16)}, "strips": {"rowsperstrip": 4, "compression": "zlib"}}.get(kind, {})
    file = BytesIO()
    tifffile.imwrite(
        file,
        np.stack([colors, alpha]).astype(dtype) * (top // 255),
        photometric="miniswhite" if kind == "white is 0" else "minisblack",
        planarconfig="separate",
        extrasamples=[1 if kind == "multiplied" else 2],
        metadata=None,
        **options,
    )
    image = read("TIFF", file.getvalue())
    assert np.array_equal(eighths(image.alpha), alpha)
    assert np.abs(eighths(image.pixels[..., 0]).astype(int) - gray).max() <= (kind == "multiplied")
    assert (image.pixels.dtype, image.notes) == (dtype, ())


def test_deep_lab_in_planes_is_refused(read):
    file = BytesIO()
    planes = np.moveaxis(COLORS, 2, 0).astype(np.uint16)
    tifffile.imwrite(file, planes, photometric="cielab", planarconfig="separate", metadata=None)
    with pytest.raises(ImageReadError, match="Lab channels are planes"):
        read("TIFF", file.getvalue())


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.float32), (1, np.float16), (1, np.uint32), (3, np.uint32)])
def test_deep_samples_of_rare_kinds_that_alpha_is_multiplied_into_are_refused(read, channels, dtype):
    file = BytesIO()
    samples = np.dstack([COLORS[..., :channels], VARIES]).astype(np.float64) / 255
    samples = samples * (2**32 - 1 if dtype == np.uint32 else 1)
    kind = "rgb" if channels == 3 else "minisblack"
    tifffile.imwrite(
        file, samples.astype(dtype), photometric=kind, planarconfig="contig", extrasamples=[1], metadata=None
    )
    with pytest.raises(ImageReadError, match="alpha is multiplied into its samples, of"):
        read("TIFF", file.getvalue())


def test_the_fourth_channel_of_a_map_is_left_out_and_it_is_said(read):
    data = tiff(VARIES, extra=None, extratags=[(33550, "d", 3, (1.0, 1.0, 0.0), True)])
    image = read("TIFF", data)
    assert image.alpha is None
    assert "1 channel beyond its colors was left out" in image.notes


def oblong_files():
    image, gif = pillow(COLORS), bytearray(encoded(pillow(COLORS), "GIF"))
    gif[12] = 113  # (113 + 15) / 64 = 2
    area = bytearray(495)
    struct.pack_into("<HH", area, 474, 2, 1)
    plain = encoded(image, "TGA").removesuffix(b"TRUEVISION-XFILE.\0")
    plain = plain[:-8] if len(plain) > 18 + 144 else plain
    jpeg = bytearray(encoded(image, "JPEG"))
    jpeg[13:18] = struct.pack(">BHH", 0, 1, 2)
    return {
        "PNG": encoded(image, "PNG").replace(
            b"\0\0\0\0IEND", png_chunk(b"pHYs", struct.pack(">IIB", 1, 2, 0)) + b"\0\0\0\0IEND"
        ),
        "TIFF": encoded(image, "TIFF", resolution_unit=1, x_resolution=1, y_resolution=2),
        "JPEG": bytes(jpeg),
        "GIF": bytes(gif),
        "TGA": plain + area + struct.pack("<II", len(plain), 0) + b"TRUEVISION-XFILE.\0",
    }


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "GIF", "TGA"])
def test_pixels_that_are_not_square_are_told(read, kind):
    image = read(kind, oblong_files()[kind])
    assert image.notes == ("its pixels are not square (2 times as wide as high), which was left out",)
