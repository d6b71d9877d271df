"""What travels with the pixels: profile, EXIF, XMP, IPTC, resolution, text, and the color chunks of PNG."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from tests.helpers.image_files import SRGB, encoded, exif_block, pillow, png, png_chunk, smooth

WIDTH, HEIGHT = 40, 24
IMAGE = smooth(HEIGHT, WIDTH)
PROFILE = SRGB + b"and what no one understands"
EXIF = exif_block(orientation=1, width=WIDTH, height=HEIGHT)
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:ImageWidth="40" exif:PixelYDimension="24">'
    b"<dc:title>a caption</dc:title></x:xmpmeta>"
)
IPTC = b"\x1c\x02\x00\x00\x02\x00\x04\x1c\x02\x78\x00\x0d" + b"a short story" + b"\x1c\x02\x50\x00\x03Zoe"
TEXT = {"Title": "a view", "Ort": "Zürich", "地": "東京"}


def rows(samples=IMAGE):
    return [row.tobytes() for row in samples]


def iptc_block():
    return b"8BIM\x04\x25\0\0\0\0\0\x02ab" + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC + b"\0"


def png_source():
    heading = f"\niptc\n{len(iptc_block()):8}\n".encode()
    chunks = [
        (b"iCCP", b"x\0\0" + zlib.compress(PROFILE)),
        (b"pHYs", struct.pack(">IIB", 11811, 5906, 1)),
        (b"eXIf", EXIF),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        (b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(heading + iptc_block().hex().encode() + b"\n")),
        (b"tEXt", b"Comment\0a remark"),
    ]
    return png(WIDTH, HEIGHT, bits=8, color_type=2, rows=rows(), chunks=chunks)


def jpeg_source():
    segment = b"Photoshop 3.0\0" + iptc_block()
    extra = b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment
    kept = {"icc_profile": PROFILE, "exif": b"Exif\0\0" + EXIF, "xmp": XMP, "dpi": (300, 150), "comment": b"a remark"}
    return encoded(pillow(IMAGE), "JPEG", quality=95, extra=extra, **kept)


def tiff_source():
    exif = Image.Exif()
    exif.load(EXIF)
    tags = {700: XMP, 33723: IPTC, 271: "Camera", 34853: {1: "N", 3: "E"}}
    return encoded(pillow(IMAGE), "TIFF", icc_profile=PROFILE, dpi=(300, 150), tiffinfo=tags)


def jp2_source():
    plain = encoded(pillow(IMAGE), "JPEG2000", irreversible=False)
    colr = struct.pack(">I4sBBB", 11 + len(PROFILE), b"colr", 2, 0, 0) + PROFILE
    resc = struct.pack(">I4sI4sHHHHBB", 26, b"res ", 18, b"resc", 5906, 1, 11811, 1, 0, 0)
    exif_id, xmp_id = b"JpgTiffExif->JP2", bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
    uuids = b"".join(
        struct.pack(">I4s", 24 + len(data), b"uuid") + name + data for name, data in ((exif_id, EXIF), (xmp_id, XMP))
    )
    at = plain.index(b"jp2h") - 4
    (length,) = struct.unpack_from(">I", plain, at)
    inside = plain[at + 8 : at + length]
    ihdr = inside[: struct.unpack_from(">I", inside)[0]]
    head = struct.pack(">I4s", 8 + len(ihdr + colr + resc), b"jp2h") + ihdr + colr + resc
    return plain[:at] + head + uuids + plain[at + length :]


SOURCES = {
    "png": png_source(),
    "jpg": jpeg_source(),
    "tif": tiff_source(),
    "webp": encoded(pillow(IMAGE), "WEBP", lossless=True, icc_profile=PROFILE, exif=EXIF, xmp=XMP),
    "avif": encoded(pillow(IMAGE), "AVIF", icc_profile=PROFILE, exif=EXIF, xmp=XMP),
    "jp2": jp2_source(),
}
TELLS = {
    "png": {"dpi", "iptc", "comment", "exif"},
    "jpg": {"dpi", "iptc", "comment", "exif"},
    "tif": {"dpi", "iptc"},
    "webp": {"exif"},
    "avif": {"exif"},
    "jp2": {"dpi", "exif"},
}
HOLDS = {"png": {"dpi", "iptc", "comment"}, "jpg": {"dpi", "iptc", "comment"}, "tif": {"dpi", "iptc"}}


def iptc_in(image, path):
    if image.format == "JPEG":
        return image.info.get("photoshop", {}).get(0x0404)
    if image.format == "TIFF":
        with tifffile.TiffFile(path) as file:  # Pillow takes the tag for a single number
            tag = file.pages[0].tags.get(33723)
            return tag and bytes(tag.value)[: len(IPTC)]
    text = getattr(image, "text", {}).get("Raw profile type iptc")
    block = text and bytes.fromhex("".join(text.split("\n")[3:]))
    return block and block[12 : 12 + len(IPTC)] if block and block.startswith(b"8BIM\x04\x04") else None


@pytest.mark.parametrize("target", ["png", "jpg", "tif", "webp", "avif"])
@pytest.mark.parametrize("source", SOURCES)
def test_metadata_from_every_format_to_every_other(enlarged, source, target):
    result = enlarged(SOURCES[source], to=f"out.{target}")
    assert result.code == 0, result.err
    with Image.open(result.path) as image:
        image.load()
        told = TELLS[source] & (HOLDS.get(target, set()) | {"exif"})
        assert image.size == (4 * WIDTH, 4 * HEIGHT)
        assert image.info["icc_profile"] == PROFILE
        check_xmp(image.info["xmp"])
        check_exif(image.getexif(), full="exif" in told)
        if "dpi" in told:
            assert image.info["dpi"] == pytest.approx((300, 150), abs=0.02)
        assert iptc_in(image, result.path) == (IPTC if "iptc" in told else None)
        comment = image.info.get("comment", b"").decode() or getattr(image, "text", {}).get("Comment", "")
        assert comment == ("a remark" if "comment" in told else "")
    lost = {"iptc": "IPTC", "comment": "text (Comment)"}
    for kind, words in lost.items():
        assert (words in result.err) == (kind in TELLS[source] - HOLDS.get(target, set()))


def check_xmp(packet):
    packet = packet if isinstance(packet, bytes) else packet.encode()
    assert b"a caption" in packet
    assert b'tiff:ImageWidth="160"' in packet
    assert b'exif:PixelYDimension="96"' in packet


def check_exif(exif, *, full):
    assert exif[0x10F] == "Camera"
    assert exif.get_ifd(0x8825) == {1: "N", 3: "E"}
    assert exif.get(0x112, 1) == 1
    if full:
        inner = exif.get_ifd(0x8769)
        assert inner[0x927C] == b"MAKER\0\1\2\3" * 9
        assert (inner[0xA002], inner[0xA003]) == (4 * WIDTH, 4 * HEIGHT)
        assert not exif.get_ifd(1)  # the thumbnail


def test_text_of_every_kind_is_kept(enlarged):
    long = "word " * 300_000  # more than a megabyte, of which the usual readers are afraid
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", TEXT["Title"])
    info.add_text("Ort", TEXT["Ort"], zip=True)
    info.add_itxt("Description", "富士山", lang="ja", tkey="説明", zip=True)
    info.add_text("Author", "first")
    info.add_text("Author", "second")
    info.add_text("Novel", long, zip=True)
    result = enlarged(encoded(pillow(IMAGE), "PNG", pnginfo=info))
    assert (result.code, result.err) == (0, "")
    text = result.image.text
    expected = {**{key: TEXT[key] for key in ("Title", "Ort")}, "Description": "富士山", "Author": "first\nsecond"}
    assert {key: text[key] for key in expected} == expected
    assert text["Novel"] == long
    assert (text["Description"].lang, text["Description"].tkey) == ("ja", "説明")


def test_profiles_too_long_for_the_usual_readers_are_kept(enlarged):
    profile = SRGB + np.random.default_rng(0).bytes(3_000_000)
    result = enlarged(
        png(WIDTH, HEIGHT, bits=8, color_type=2, rows=rows(), chunks=[(b"iCCP", b"x\0\0" + zlib.compress(profile))]),
        to="out.tif",
    )
    assert result.err == ""
    assert result.image.info["icc_profile"] == profile


COLOR = [
    (b"cICP", bytes([9, 16, 0, 1])),
    (b"gAMA", struct.pack(">I", 100_000)),
    (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)),
]


def test_color_chunks_are_kept_byte_for_byte(enlarged):
    for chunks in (COLOR, [(b"sRGB", b"\1"), (b"gAMA", struct.pack(">I", 45455))]):
        result = enlarged(png(WIDTH, HEIGHT, bits=8, color_type=2, rows=rows(), chunks=chunks))
        assert result.err == ""
        written = result.path.read_bytes()
        for chunk in chunks:
            assert png_chunk(*chunk) in written[: written.index(b"IDAT")]


def test_color_chunks_that_have_no_place_are_reported_where_they_matter(enlarged):
    def told(*chunks):
        return enlarged(png(WIDTH, HEIGHT, bits=8, color_type=2, rows=rows(), chunks=chunks), to="out.jpg").err

    assert "not sRGB): they will look different" in told(COLOR[0])
    assert "not sRGB): they will look different" in told(COLOR[1])
    assert told((b"gAMA", struct.pack(">I", 45455))) == ""
    assert told((b"sRGB", b"\0"), COLOR[1]) == ""


def test_a_damaged_chunk_costs_itself_and_a_note(enlarged):
    data = png(
        WIDTH, HEIGHT, bits=8, color_type=2, rows=rows(), chunks=[(b"tEXt", b"Title\0one"), (b"tEXt", b"Other\0two")]
    )
    result = enlarged(data.replace(b"Title\0one", b"Title\0owe"))
    assert "its tEXt chunk is damaged and was left out" in result.err
    assert result.image.text == {"Other": "two"}


@pytest.fixture(scope="module")
def many_zeros():
    return zlib.compress(bytes(80_000_000))


@pytest.mark.parametrize(
    ("kind", "start"), [(b"zTXt", b"Title\0\0"), (b"iTXt", b"Title\0\1\0\0\0"), (b"iCCP", b"x\0\0")]
)
def test_what_inflates_without_measure_is_left_out(enlarged, many_zeros, kind, start):
    bomb = (kind, start + many_zeros)
    result = enlarged(png(WIDTH, HEIGHT, bits=8, color_type=2, rows=rows(), chunks=[bomb]))
    assert result.code == 0
    assert f"its {kind.decode()} chunk inflates to an unreasonable size and was left out" in result.err
    assert result.path.stat().st_size < 100_000


def test_photoshop_blocks_without_iptc_are_no_iptc(enlarged):
    segment = b"Photoshop 3.0\0" + b"8BIM\x04\x25\0\0\0\0\0\x02ab"
    extra = b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment
    result = enlarged(encoded(pillow(IMAGE), "JPEG", extra=extra), to="out.webp")
    assert result.err == ""


def test_xmp_beyond_one_segment_is_reported(enlarged):
    segment = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + bytes(8) + b"more"
    extra = b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment
    assert "beyond 64 kB" in enlarged(encoded(pillow(IMAGE), "JPEG", extra=extra)).err


def test_what_is_stale_in_xmp_goes(enlarged):
    packet = (
        b'<x:xmpmeta xmpNote:HasExtendedXMP="ABC" tiff:Orientation="1"><xmp:Thumbnails><rdf:Alt>old</rdf:Alt>'
        b"</xmp:Thumbnails><dc:title>a caption</dc:title></x:xmpmeta>"
    )
    result = enlarged(encoded(pillow(IMAGE), "JPEG", xmp=packet))
    expected = b'<x:xmpmeta tiff:Orientation="1"><dc:title>a caption</dc:title></x:xmpmeta>'
    assert result.image.info["xmp"] == expected


@pytest.mark.parametrize(
    ("code_points", "kept"), [((12, 13), True), ((9, 16), True), ((1, 13), False), ((2, 2), False)]
)
def test_colors_that_an_avif_tells_by_number_are_kept(enlarged, code_points, kept):
    data = encoded(pillow(IMAGE), "AVIF")
    at = data.index(b"colrnclx") + 8
    data = data[:at] + struct.pack(">HH", *code_points) + data[at + 4 :]
    written = enlarged(data).path.read_bytes()
    assert (png_chunk(b"cICP", bytes([*code_points, 0, 1])) in written) == kept
    assert ("they will look different" in enlarged(data, to="out.webp").err) == kept


def test_keywords_that_would_break_a_line_do_not(enlarged):
    chunks = [(b"tEXt", b"two\nlines\x1b[31m\0x"), *((b"tEXt", b"key %d\0x" % number) for number in range(20))]
    result = enlarged(png(WIDTH, HEIGHT, bits=8, color_type=2, rows=rows(), chunks=chunks), to="out.jpg")
    assert result.err.count("\n") == 1
    assert "text (two?lines?[31m, key 0, key 1, " in result.err
    assert "and 13 more)" in result.err
