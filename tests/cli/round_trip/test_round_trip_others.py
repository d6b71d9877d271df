"""WebP, AVIF, JPEG 2000, HEIC, GIF, BMP, PBM to PPM, TGA, ICO and QOI."""

import struct
import sys
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tests.helpers.image_files import encoded, noise, pillow, smooth, vips_image
from tests.helpers.round_trip import check

IMAGE = smooth(24, 40)
HOLE = np.where(np.add.outer(np.arange(24), np.arange(40)) % 30 < 12, 0, 255).astype(np.uint8)
SPRITE = np.dstack([IMAGE, HOLE])


def rgba(samples=SPRITE):
    return Image.fromarray(samples)


@pytest.mark.parametrize(("options", "loss"), [({"lossless": True, "exact": True}, 0), ({"quality": 98}, 14)])
def test_webp(enlarged, options, loss):
    check(enlarged(encoded(pillow(IMAGE), "WEBP", **options)), IMAGE, tolerance=loss)
    check(enlarged(encoded(rgba(), "WEBP", **options)), SPRITE, tolerance=loss + 30 * bool(loss))


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_avif_of_8_bits(enlarged, subsampling):
    check(enlarged(encoded(pillow(IMAGE), "AVIF", quality=95, subsampling=subsampling)), IMAGE, tolerance=8)
    clear = rgba(np.dstack([IMAGE, np.full((24, 40), 128, np.uint8)]))
    result = enlarged(encoded(clear, "AVIF", quality=95, subsampling=subsampling))
    assert result.samples[..., 3].min() == result.samples[..., 3].max() == 128


def test_gray_avif_stays_gray(enlarged):
    gray = IMAGE[..., :1]
    check(enlarged(encoded(pillow(gray), "AVIF", quality=95, subsampling="4:0:0")), gray, tolerance=8)


@pytest.mark.parametrize("bits", [10, 12])
def test_deep_avif_comes_out_at_16_bits(enlarged, bits):
    ramp = np.tile(np.linspace(0, 65535, 256).astype(np.uint16)[None, :, None], (16, 1, 3))
    options = {"compression": "av1", "bitdepth": bits, "Q": 99, "subsample_mode": "off"}
    check(enlarged(vips_image(ramp, "rgb16").heifsave_buffer(**options)), ramp, tolerance=400)


@pytest.mark.parametrize(("samples", "mode"), [(IMAGE[..., :1], "L"), (IMAGE, "RGB"), (SPRITE, "RGBA")])
@pytest.mark.parametrize("boxed", [True, False], ids=["jp2", "j2k"])
def test_jpeg_2000(enlarged, samples, mode, boxed):
    image = pillow(samples)
    assert image.mode == mode
    note = None if boxed or mode != "RGBA" else "which it does not declare as alpha"  # a bare stream declares nothing
    check(enlarged(encoded(image, "JPEG2000", irreversible=False, no_jp2=not boxed)), samples, note=note)


def test_deep_gray_jpeg_2000(enlarged):
    levels = noise(12, 16, 1, np.uint16)
    check(enlarged(encoded(Image.fromarray(levels[..., 0]), "JPEG2000", irreversible=False)), levels)


def test_a_gif_with_and_without_a_hole(enlarged):
    colors = noise(4, 4, 3).repeat(5, 0).repeat(5, 1)
    image = pillow(colors).quantize(16, dither=Image.Dither.NONE)
    check(enlarged(encoded(image, "GIF")), colors)
    image.info["transparency"] = image.getpixel((0, 0))
    clear = (colors == colors[0, 0]).all(axis=2)
    expected = np.dstack([colors, np.where(clear, 0, 255)]).astype(np.uint8)
    check(enlarged(encoded(image, "GIF", transparency=image.getpixel((0, 0)))), expected)


def test_a_gray_gif_stays_gray(enlarged):
    levels = np.array([0, 10, 77, 255], np.uint8)[noise(4, 4, 1) % 4].repeat(5, 0).repeat(5, 1)
    palette = Image.fromarray(levels[..., 0]).convert("RGB").quantize(8)
    assert palette.mode == "P"
    check(enlarged(encoded(palette, "GIF")), levels)


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_of_an_animation_the_first_frame_is_read_and_it_is_said(enlarged, file_format):
    frames = [Image.new("RGB", (12, 12), color) for color in ("#c02020", "#2020c0", "#20c020")]
    lossless = {"WEBP": {"lossless": True}}.get(file_format, {})
    data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:], duration=50, **lossless)
    expected = np.full((12, 12, 3), (192, 32, 32), np.uint8)
    tolerance = 12 if file_format == "AVIF" else 0
    check(enlarged(data), expected, note="only the first of 3 frames was read", tolerance=tolerance)


@pytest.mark.parametrize("samples", [IMAGE[..., :1], IMAGE])
def test_bmp(enlarged, samples):
    check(enlarged(encoded(pillow(samples), "BMP")), samples)


def test_bmp_of_1_bit_and_with_a_palette(enlarged):
    bits = noise(6, 9, 1) > 127
    check(enlarged(encoded(Image.fromarray(bits[..., 0]), "BMP")), (bits * 255).astype(np.uint8))
    colors = noise(4, 4, 3).repeat(3, 0).repeat(3, 1)
    check(enlarged(encoded(pillow(colors).quantize(16, dither=Image.Dither.NONE), "BMP")), colors)


def test_bmp_with_alpha_as_windows_writes_it(enlarged):
    header = struct.pack(
        "<IiiHHIIiiII4I", 108, 40, -24, 1, 32, 3, 0, 2835, 2835, 0, 0, 255 << 16, 255 << 8, 255, 255 << 24
    )
    header += b"BGRs".ljust(52, b"\0")
    body = np.ascontiguousarray(SPRITE[..., [2, 1, 0, 3]]).tobytes()
    data = b"BM" + struct.pack("<IHHI", 14 + 108 + len(body), 0, 0, 122) + header[:108] + body
    check(enlarged(data), SPRITE)


@pytest.mark.parametrize("depth", [1, 8, 16])
@pytest.mark.parametrize("plain", [False, True])
def test_pbm_pgm_ppm(enlarged, depth, plain):
    white = (1 << depth) - 1
    dtype = np.uint16 if depth == 16 else np.uint8
    for channels in (1,) if depth == 1 else (1, 3):
        levels = np.random.default_rng(6).integers(0, white + 1, (5, 8, channels))
        number = {1: 4, 8: 5, 16: 5}[depth] + (channels == 3) - 3 * plain
        head = f"P{number} 8 5 {'' if depth == 1 else f'{white} '}".replace("  ", " ").encode()[:-1] + b"\n"
        inked = 1 - levels if depth == 1 else levels  # in a PBM 1 is black
        if plain:
            body = " ".join(map(str, inked.ravel())).encode()
        elif depth == 1:
            body = np.packbits(inked[..., 0].astype(np.uint8), axis=1).tobytes()
        else:
            body = levels.astype(">u2" if depth == 16 else "u1").tobytes()
        check(enlarged(head + body), (levels * 255 if depth == 1 else levels).astype(dtype))


@pytest.mark.parametrize("rle", [False, True])
@pytest.mark.parametrize("samples", [IMAGE[..., :1], IMAGE, SPRITE])
def test_tga_goes_by_its_name(enlarged, samples, rle):
    data = encoded(pillow(samples), "TGA", compression="tga_rle" if rle else None)
    check(enlarged(data, "a.tga"), samples)
    assert enlarged(data, "a.bin").code == 3  # without the name nothing tells it from any other file


def test_of_an_icon_the_largest_image_is_read_and_it_is_said(enlarged):
    image = np.full((32, 32, 4), (10, 200, 30, 255), np.uint8)
    image[:8, :, 3] = 0
    one = encoded(Image.fromarray(image), "ICO", sizes=[(32, 32)])
    check(enlarged(one), image)
    two = encoded(Image.fromarray(image), "ICO", sizes=[(16, 16), (32, 32)])
    check(enlarged(two), image, note="only the largest of 2 images was read")


def qoi(samples):
    """A QOI of whole pixels, without any of its abbreviations."""
    channels = samples.shape[2]
    mark = {3: b"\xfe", 4: b"\xff"}[channels]
    pixels = b"".join(mark + pixel.tobytes() for row in samples for pixel in row)
    return b"qoif" + struct.pack(">IIBB", samples.shape[1], samples.shape[0], channels, 0) + pixels + bytes(7) + b"\1"


@pytest.mark.parametrize("samples", [IMAGE, SPRITE])
def test_qoi(enlarged, samples):
    check(enlarged(qoi(samples)), samples)


def test_heic_without_its_library_is_told_what_to_do(enlarged, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    result = enlarged(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), "phone.heic")
    assert (result.code, result.err.count("\n")) == (3, 1)
    assert "phone.heic is a HEIC image. To read those: pip install pillow-heif" in result.err


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "RGB;16"])
def test_heic(enlarged, mode):
    heif = pytest.importorskip("pillow_heif")
    samples = {"L": IMAGE[..., :1], "RGBA": SPRITE, "RGB": IMAGE, "RGB;16": IMAGE.astype(np.uint16) * 257}[mode]
    made = heif.from_bytes(mode, (40, 24), samples.tobytes())
    exif = Image.Exif()
    exif[0x10F] = "Telephone"
    buffer = BytesIO()
    made.save(buffer, quality=-1, chroma=444, exif=exif.tobytes())
    result = enlarged(buffer.getvalue(), "phone.heic")
    check(result, samples, tolerance=300 if mode == "RGB;16" else 3)
    assert result.image.getexif()[0x10F] == "Telephone"


@pytest.mark.parametrize(
    ("start", "kind", "way"),
    [
        (b"8BPS\0\1", "a Photoshop document", "Save it as one of: PNG"),
        (b"\xff\x0a\xfa\x1f", "a JPEG XL image", "Save it as one of: PNG"),
        (b"\0\0\2\0\1\0\x20\x20", "a Windows cursor", "Save it as one of: PNG"),
        (b"\0\0\2" + bytes(9) + b"\x40\0\x40\0", "a TGA without its suffix, as it seems", "a name that ends in .tga"),
        (b"%PDF-1.7\n", "a PDF document", "render its pages"),
        (b"\n\n%PDF-1.7\n", "a PDF document", "render its pages"),
        (b"FUJIFILMCCD-RAW 0201", "a camera raw file of Fujifilm", "Develop it first"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "a camera raw file of Canon", "Develop it first"),
        (b"IIU\0\x18\0", "a camera raw file of Panasonic", "Develop it first"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "a video, or another kind of media", "Take a frame"),
        (b"\0\0\0\x08wide\0\0\1\0mdat", "a video, or another kind of media", "Take a frame"),
        (b"RIFF\0\1\0\0AVI LIST", "a video, or another kind of media", "Take a frame"),
        (b"\x1a\x45\xdf\xa3\x9f", "a video", "Take a frame"),
        (b'<?xml version="1.0"?><svg xmlns="x">', "an SVG drawing", "Save it as one of: PNG"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied', "an XML text", "Fetch the image itself"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "a PostScript document", "Save it as one of: PNG"),
        (b"\xef\xbb\xbf\n  <!DOCTYPE HTML PUBLIC>", "a web page (HTML)", "Fetch the image itself"),
        (b"<!-- saved -->\n<HTML><body>", "a web page (HTML)", "Fetch the image itself"),
        (b'{"error": "rate limit"}', "a JSON text", "Fetch the image itself"),
        (b"[\n]", "a JSON text", "Fetch the image itself"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "a Git LFS pointer", "git lfs pull"),
        (b"/annex/objects/SHA256E-s3--ab.png\n", "a git-annex pointer", "git annex get"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI\x50\0\x20\6", "a PNG crushed for iOS (CgBI)", "pngcrush"),
        (b"PK\3\4\x14\0", "a ZIP archive", "Unpack it first"),
        (b"\x1f\x8b\x08", "an archive", "Unpack it first"),
        (bytes(128) + b"DICM", "a DICOM image", "Save it as one of: PNG"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X", "a companion file of macOS (AppleDouble)", "`._`"),
    ],
)
def test_what_cannot_be_read_is_called_by_its_name(enlarged, start, kind, way):
    result = enlarged(start + bytes(100), "odd.png")
    assert (result.code, result.err.count("\n")) == (3, 1)
    assert f"odd.png is {kind}, which cannot be read. " in result.err
    assert way in result.err
