import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.io.codecs import jpeg2000
from ddnsr_cli.io.codecs.jpeg2000 import component_bits, metadata_of_boxes
from tests.helpers.image_files import encoded, pillow, smooth


def box(kind, data):
    return struct.pack(">I4s", 8 + len(data), kind) + data


@pytest.mark.parametrize(("image", "depth"), [(pillow(smooth(8, 8)), 8), (Image.new("I;16", (8, 8)), 16)])
@pytest.mark.parametrize("bare", [True, False])
def test_the_depth_is_that_of_the_code_stream(image, depth, bare):
    assert component_bits(encoded(image, "JPEG2000", no_jp2=bare)) == depth
    assert component_bits(b"\xff\x4f\xff\x51") == 8


def test_gray_of_12_bits_spans_black_to_white(read, monkeypatch):
    levels = np.array([[0, 4095 << 4], [1 << 4, 2048 << 4]], np.uint16)  # as Pillow gives 12 bits
    data = encoded(Image.fromarray(levels), "JPEG2000", irreversible=False)
    monkeypatch.setattr(jpeg2000, "component_bits", lambda head: 12)
    np.testing.assert_array_equal(read(data).pixels[..., 0], [[0, 65535], [16, 32776]])


def test_deep_colors_are_read_at_8_bits_and_it_is_said(read, monkeypatch):
    monkeypatch.setattr(jpeg2000, "component_bits", lambda head: 16)
    image = read(encoded(pillow(smooth(8, 8)), "JPEG2000"))
    assert image.depth_bits == 8
    assert image.notes == ("its colors of 16 bits were read at 8 bits",)


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("bands", [3, 4])
@pytest.mark.parametrize("is_bare", [True, False])
def test_deep_colors_are_read_at_all_their_bits_by_openjpeg(read, bits, bands, is_bare):
    openjpeg = pytest.importorskip("openjpeg.utils")
    largest = (1 << bits) - 1
    levels = np.linspace(0, largest, 80 * 70 * bands).astype(np.uint16).reshape(80, 70, bands)
    data = openjpeg.encode_array(
        levels, bits_stored=bits, photometric_interpretation=1 if bands == 3 else 0, codec_format=0 if is_bare else 1
    )
    image = read(bytes(data))
    assert image.depth_bits == 16
    assert not any("8 bits" in note for note in image.notes)
    expected = np.rint(levels * (65535 / largest))
    np.testing.assert_array_equal(image.pixels, expected[..., :3])
    if image.alpha is not None:
        np.testing.assert_array_equal(image.alpha, expected[..., 3])


def test_deep_colors_that_pillow_has_converted_are_left_to_it(read, monkeypatch):
    openjpeg = pytest.importorskip("openjpeg.utils")
    levels = np.linspace(0, 65535, 80 * 70 * 3).astype(np.uint16).reshape(80, 70, 3)
    data = bytes(openjpeg.encode_array(levels, bits_stored=16, photometric_interpretation=1, codec_format=1))
    monkeypatch.setattr(openjpeg, "decode", lambda data: levels[::-1])
    image = read(data)
    assert (image.depth_bits, image.notes) == (8, ("its colors of 16 bits were read at 8 bits",))


def test_the_way_to_all_bits_is_told(read, monkeypatch):
    monkeypatch.setattr(jpeg2000, "component_bits", lambda head: 16)
    monkeypatch.setattr(jpeg2000, "find_spec", lambda name: None)
    assert read(encoded(pillow(smooth(8, 8)), "JPEG2000")).notes[0].endswith("pip install 'ddnsr[jp2]'")


@pytest.mark.parametrize("irreversible", [True, False])
def test_white_of_deep_colors_is_white(read, irreversible, monkeypatch):
    monkeypatch.setattr(jpeg2000, "_at_full_depth", lambda *_: None)
    samples = np.where(np.arange(32)[:, None] % 16 < 8, 255, smooth(32, 32)[..., 0])[..., None].repeat(3, 2)
    samples = samples.astype(np.uint8)
    samples[:, ::8] = 0
    lossy = {"irreversible": True, "quality_mode": "dB", "quality_layers": [30]}
    data = encoded(pillow(samples), "JPEG2000", num_resolutions=2, **(lossy if irreversible else {}))
    plain = read(data).pixels.astype(int)
    # the same data as if for more bits: those of lossy data scale with them, those of others do not and lie in between
    bits = 16 if irreversible else 9
    at = data.index(b"\xff\x4f\xff\x51") + 42
    deep = data[:at] + b"".join(bytes((bits - 1,)) + data[at + 3 * i + 1 : at + 3 * i + 3] for i in range(3))
    expected = plain if irreversible else (plain + 129) // 2
    image = read(deep + data[at + 9 :])
    assert np.abs(image.pixels - expected).max() <= 1
    assert image.notes == (f"its colors of {bits} bits were read at 8 bits",)


def test_resolution_is_a_fraction_with_a_power_of_ten():
    resolution = struct.pack(">HHHHbb", 11811, 100, 5906, 1000, 2, 3)
    nested = box(b"jp2h", box(b"res ", box(b"resc", resolution)))
    assert metadata_of_boxes(BytesIO(nested)).dpi == pytest.approx((150.01, 300.0), abs=0.01)
    zero = box(b"jp2h", box(b"res ", box(b"resd", bytes(10))))
    assert metadata_of_boxes(BytesIO(zero)).dpi == (0.0, 0.0)  # left out later as senseless


def test_colors_that_alpha_was_multiplied_into_are_as_they_were(read):
    colors, alpha = smooth(16, 16), np.full((16, 16, 1), 128, np.uint8)
    multiplied = np.rint(colors * (alpha / 255)).astype(np.uint8)
    data = encoded(pillow(np.dstack([multiplied, alpha])), "JPEG2000", irreversible=False, num_resolutions=1)
    at = data.index(b"cdef") + 6
    definition = bytearray(data[at : at + 24])
    assert definition[21] == 1  # of the fourth channel: opacity
    assert np.array_equal(read(data).pixels, multiplied)
    definition[21] = 2
    image = read(data[:at] + definition + data[at + 24 :])
    assert np.abs(image.pixels.astype(int) - colors).max() <= 1
    assert np.array_equal(image.alpha, alpha[..., 0])


def test_iptc_lies_in_a_box_of_its_own():
    records = b"\x1c\2\x19\0\2kw"
    data = box(b"uuid", bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38") + records)
    assert metadata_of_boxes(BytesIO(data)).iptc == records


def test_boxes_of_every_length_and_none():
    xmp = bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + b"<x/>"
    long = struct.pack(">I4sQ", 1, b"uuid", 16 + len(xmp)) + xmp
    to_the_end = struct.pack(">I4s", 0, b"uuid") + xmp
    for data in (box(b"uuid", xmp), long, box(b"free", b"..") + to_the_end):
        assert metadata_of_boxes(BytesIO(data)).xmp == b"<x/>"
    for data in (b"", b"\0\0\0\x08", struct.pack(">I4s", 7, b"uuid"), struct.pack(">I4s", 99, b"uuid") + xmp):
        assert metadata_of_boxes(BytesIO(data)).xmp is None


def test_boxes_in_boxes_without_end_do_no_harm():
    data = b""
    for _ in range(3000):
        data = box(b"jp2h", data)
    assert metadata_of_boxes(BytesIO(data)).icc is None
