import re
import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.errors import ImageReadError
from ddnsr_cli.io.codecs import jpeg2000
from ddnsr_cli.io.codecs.jpeg2000 import component_bits, metadata_of_boxes
from tests.helpers.image_files import encoded, noise, pillow, smooth


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


def white_around_noise(side):
    samples = np.full((side, side, 3), 255, np.uint8)
    samples[10:90, 10:90] = noise(80, 80, 3)
    return samples


def with_empty_layers(stream, layers):
    """A bare stream of one layer and 6 resolutions as one of many, of which the others hold nothing in any tile."""
    at = stream.index(b"\xff\x52")
    made = stream[: at + 6] + struct.pack(">H", layers) + stream[at + 8 : (at := stream.index(b"\xff\x90"))]
    empty = bytes((layers - 1) * 6 * 3)
    while stream[at : at + 2] == b"\xff\x90":
        (length,) = struct.unpack_from(">I", stream, at + 6)
        made += stream[at : at + 6] + struct.pack(">I", length + len(empty)) + stream[at + 10 : at + length] + empty
        at += length
    return made + stream[at:]


@pytest.mark.parametrize("layers", [6, 12, 50])
def test_empty_packets_of_many_layers_are_no_damage(read, layers):
    samples = white_around_noise(256)
    stream = encoded(pillow(samples), "JPEG2000", no_jp2=True, tile_size=(128, 128))
    np.testing.assert_array_equal(read(with_empty_layers(stream, layers)).pixels, samples)


@pytest.mark.parametrize("order", ["LRCP", "RPCL"])
@pytest.mark.parametrize("tile", [{}, {"tile_size": (512, 512), "offset": (100, 60), "tile_offset": (40, 50)}])
def test_empty_packets_of_many_precincts_are_no_damage(read, order, tile):
    samples = white_around_noise(1000)
    kinds = {"precinct_size": (32, 32), "codeblock_size": (16, 16), "progression": order, "num_resolutions": 3}
    data = encoded(pillow(samples), "JPEG2000", **kinds, **tile)
    # OpenJPEG writes a packet that no block is in as a bit of 1; other encoders, as an empty one: a bit of 0
    data = re.sub(rb"\x80{50,}", lambda run: b"\x80" + bytes(len(run[0]) - 2) + b"\x80", data)
    assert bytes(500) in data
    np.testing.assert_array_equal(read(data).pixels, samples)


def test_zeros_that_are_no_empty_packets_are_damage_in_streams_of_many_layers_too(read):
    stream = with_empty_layers(encoded(pillow(noise(128, 128, 3)), "JPEG2000", no_jp2=True), 50)
    assert read(stream).pixels.shape == (128, 128, 3)
    # no packet begins with a byte below 128; a block of a disk; more than there are packets
    low = next(at for at in range(5000, 9000) if stream[at] and stream[at + 600] in range(1, 128))
    high = next(at for at in range(5000, 9000) if stream[at] and stream[at + 1000] >= 128 and stream[at - 1])
    for at, length in ((low, 600), (5120, 1024), (high, 1000)):
        damaged = stream[:at] + bytes(length) + stream[at + length :]
        with pytest.raises(ImageReadError, match="of its data are zeros"):
            read(damaged)


@pytest.mark.parametrize(
    "header", [b"\xff\x4f\xff\x51", b"\xff\x4f\xff\x51" + bytes(60), b"\xff\x4f\xff\x51" + b"\xff" * 300, b""]
)
def test_a_header_that_makes_no_sense_tells_of_no_packets(header):
    assert jpeg2000.most_packets(header) == 0


def test_packets_are_counted():
    image = pillow(smooth(300, 200))
    assert jpeg2000.most_packets(encoded(image, "JPEG2000")) == 6 * 3
    fine = {"precinct_size": (64, 64), "codeblock_size": (32, 32), "num_resolutions": 2}
    assert jpeg2000.most_packets(encoded(image, "JPEG2000", **fine)) == 3 * (5 * 4 + 5 * 4)
    layers = {"quality_mode": "rates", "quality_layers": [9, 3]}
    assert jpeg2000.most_packets(encoded(image, "JPEG2000", **fine, **layers)) == 2 * 3 * (5 * 4 + 5 * 4)
