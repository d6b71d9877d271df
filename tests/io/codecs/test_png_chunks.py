import struct
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddnsr_cli.io.codecs.png import decode_png
from ddnsr_cli.io.codecs.png_chunks import MAX_TEXT_BYTES, check_rows, orientation_chunks, read_chunks, take_apart
from tests.helpers.image_files import deep_png, encoded, interlaced_png, noise, pillow, png, png_chunk, smooth

SMALL = smooth(6, 7)
PLAIN = png(7, 6, bits=8, color_type=2, rows=[row.tobytes() for row in SMALL])


def apart(data):
    return take_apart(BytesIO(data), lambda width, height: None)


def test_the_pixels_come_out_as_a_file_of_their_own_without_the_rest():
    data = png(7, 6, bits=8, color_type=2, rows=[row.tobytes() for row in SMALL], chunks=[(b"tEXt", b"Title\0x")])
    parts = apart(data)
    assert parts.pixels.getvalue() == PLAIN
    assert parts.chunks == [(b"tEXt", b"Title\0x")]
    assert (parts.header.bits, parts.header.color_type, parts.frames, parts.notes) == (8, 2, 1, [])


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 2), (8, 8), (33, 17)])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_rows_are_counted_rightly_whatever_their_order(size, bits):
    levels = np.random.default_rng(0).integers(0, 1 << bits, (*size, 1))
    data = interlaced_png(levels, bits=bits, color_type=0)
    check_rows(apart(data))
    pixels = zlib.decompress(data[data.index(b"IDAT") + 4 : -16])
    short = data[:33] + png_chunk(b"IDAT", zlib.compress(pixels[:-1])) + png_chunk(b"IEND", b"")
    with pytest.raises(ValueError, match="cut short"):
        check_rows(apart(short))
    with pytest.raises(ValueError, match="cut short"):
        decode_png(Path("a.png"), BytesIO(short), max_pixels=1000)


def test_chunks_around_the_pixels_are_found_without_them():
    found = orientation_chunks(BytesIO(PLAIN[:-12] + png_chunk(b"eXIf", b"behind") + PLAIN[-12:]))
    assert found == [(b"eXIf", b"behind")]


def test_the_size_is_asked_before_anything_is_read():
    def refuse(width, height):
        raise KeyError((width, height))

    with pytest.raises(KeyError, match=r"\(7, 6\)"):
        take_apart(BytesIO(PLAIN[:33]), refuse)


@pytest.mark.parametrize("kind", [b"CgBI", b"JUNK", b"\0\0\0\0", b"tE\xfft"])
def test_what_no_decoder_should_pass_over_is_refused(kind):
    with pytest.raises(ValueError, match="newer kind"):
        apart(PLAIN[:33] + png_chunk(kind, b"xxxx") + PLAIN[33:])


def test_what_nobody_needs_is_passed_over_unread():
    parts = apart(PLAIN[:33] + png_chunk(b"prVt", b"secret") + PLAIN[33:])
    assert (parts.chunks, parts.notes) == ([], [])


@settings(max_examples=200)
@given(st.data())
def test_damage_raises_only_what_is_said(data):
    whole = data.draw(st.sampled_from([PLAIN, deep_png(noise(3, 4, 4, np.uint16), [(b"eXIf", b"II*\0")])]))
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:at] + data.draw(st.binary(max_size=40)) + whole[at + data.draw(st.integers(0, 40)) :]
    with suppress(ValueError):
        parts = apart(damaged)
        assert parts.pixels.getvalue().endswith(PLAIN[-12:])


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from([b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"pHYs", b"gAMA"]), st.binary())))
def test_whatever_chunks_hold_each_gives_metadata_or_a_note(chunks):
    metadata, notes = read_chunks(chunks)
    assert all(note.startswith("its ") for note in notes)
    assert metadata.exif is None


@settings(max_examples=50)
@given(st.dictionaries(st.text(st.characters(max_codepoint=255, min_codepoint=32), min_size=1, max_size=79), st.text()))
def test_texts_come_back_as_pillow_writes_them(texts):
    from PIL.PngImagePlugin import PngInfo

    texts = {key: value.replace("\0", "") for key, value in texts.items() if "Raw profile" not in key}
    texts = {key: value.encode("utf-8", "ignore").decode() for key, value in texts.items()}
    info = PngInfo()
    for number, (key, value) in enumerate(texts.items()):
        info.add_text(key, value, zip=number % 2 == 1)
    parts = apart(encoded(pillow(SMALL), "PNG", pnginfo=info))
    metadata, notes = read_chunks(parts.chunks)
    assert metadata.text == texts
    assert notes == []


def test_all_texts_together_have_a_limit():
    one = (b"zTXt", b"a\0\0" + zlib.compress(bytes(MAX_TEXT_BYTES // 2)))
    metadata, notes = read_chunks([one, one, (b"tEXt", b"b\0one more")])
    assert len(metadata.text["a"]) == MAX_TEXT_BYTES + 1
    assert len(notes) == 1
    assert "unreasonable" in notes[0]


def test_resolution_without_a_unit_is_none():
    metadata, _ = read_chunks([(b"pHYs", struct.pack(">IIB", 2, 1, 0))])
    assert metadata.dpi is None
