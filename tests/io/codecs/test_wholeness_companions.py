"""What else is in a file is told once, by what it is."""

import mmap
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from ddnsr_cli.io.codecs.heif import in_boxes
from tests.helpers.image_files import encoded, noise, pillow

JPEG = encoded(pillow(noise(24, 32, 3)), "JPEG")
VIDEO = b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(2000)
GAIN_MAP = encoded(pillow(noise(6, 8, 1)), "JPEG", xmp=b'<x xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"/>')
OTHER = encoded(pillow(noise(6, 8, 3)), "JPEG")


@pytest.mark.parametrize(
    ("behind", "notes"),
    [
        (VIDEO, ("the file also holds a video, which was left out",)),
        (GAIN_MAP, ("the file also holds a gain map for HDR, which was left out",)),
        (GAIN_MAP + VIDEO, ("the file also holds a gain map for HDR and a video, which were left out",)),
        (OTHER, ("only the first of 2 frames was read",)),
        (
            OTHER + OTHER + GAIN_MAP,
            ("only the first of 3 frames was read", "the file also holds a gain map for HDR, which was left out"),
        ),
        (b"\0\0\x01\x0a\x0e\0\0\0Image_UTC_Data16SEFH" + bytes(30) + b"SEFT", ()),
        (b"RIFF\x10\0\0\0WAVEfmt ", ("the file also holds a sound, which was left out",)),
        (bytes(4096), ()),
        (b"\xff\xd8\xff\xe0 no image", ()),
    ],
)
def test_behind_a_jpeg(read, behind, notes):
    assert read(JPEG + behind).notes == notes


def test_a_gain_map_that_only_the_main_image_names(read):
    xmp = b'<x xmlns:Item="http://ns.google.com/photos/1.0/container/item/" Item:Semantic="GainMap"/>'
    data = encoded(pillow(noise(24, 32, 3)), "JPEG", xmp=xmp)
    assert read(data + OTHER).notes == ("the file also holds a gain map for HDR, which was left out",)
    assert read(data).notes == ()  # promised, and not there


def test_frames_that_a_header_promises_and_that_are_not_there_are_not_told(read, tmp_path):
    first, second = (Image.fromarray(noise(24, 32, 3, seed=seed)) for seed in (1, 2))
    first.save(tmp_path / "a.mpo", "MPO", save_all=True, append_images=[second])
    data = (tmp_path / "a.mpo").read_bytes()
    assert read(data).notes == ("only the first of 2 frames was read",)
    assert read(data[: data.index(b"\xff\xd9") + 2]).notes == ()
    frames = [Image.fromarray(noise(24, 32, 3, seed=seed)) for seed in range(3)]
    animated = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert read(animated).notes == ("only the first of 3 frames was read",)
    at = animated.index(b"fcTL", animated.index(b"IDAT")) - 4
    assert read(animated[:at] + animated[-12:]).notes == ()


def test_large_thumbnails_of_a_camera_are_no_frames(read):
    frames = [pillow(noise(24, 32, 3)), pillow(noise(12, 16, 3))]
    data = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    second = data.index(struct.pack("<II", 0x030000, data.index(b"\xff\xd8", 2))) + 16
    for kind, notes in ((0x010002, ()), (0x020002, ("only the first of 2 frames was read",))):
        assert read(data[:second] + struct.pack("<I", kind) + data[second + 4 :]).notes == notes


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "GIF", "BMP", "PPM", "QOI", "JPEG2000"])
@pytest.mark.parametrize(
    ("behind", "what"),
    [
        (VIDEO, "a video"),
        (bytes(32) + b"PK\3\4" + OTHER, "an archive"),
        (OTHER, "another image"),
        (OTHER + encoded(pillow(noise(6, 8, 3)), "PNG"), "other images"),
        (bytes(300), None),
    ],
)
def test_behind_others(read, kind, behind, what):
    data = encoded(pillow(noise(24, 32, 3)), kind)
    verb = "were" if what == "other images" else "was"
    assert read(data).notes == ()
    assert read(data + behind).notes == ((f"the file also holds {what}, which {verb} left out",) if what else ())


@pytest.mark.parametrize(
    ("behind", "what"),
    [
        (b"Rar!\x1a\7\0", "an archive"),
        (b"\r\n%PDF-1.7\n", "a PDF document"),
        (b"PK\3\4" + OTHER + VIDEO, "an archive"),
        (VIDEO + OTHER, "a video"),
    ],
)
def test_what_lies_in_what_is_behind_is_not_told(read, behind, what):
    assert read(JPEG + behind).notes == (f"the file also holds {what}, which was left out",)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
def test_an_image_of_another_format_behind_a_jpeg_counts(read, kind):
    assert read(JPEG + encoded(pillow(noise(6, 8, 3)), kind)).notes == ("only the first of 2 frames was read",)


def test_images_of_a_ppm_are_counted(read):
    data = encoded(pillow(noise(24, 32, 3)), "PPM")
    assert read(data + data + encoded(pillow(noise(6, 8, 1)), "PPM")).notes == ("only the first of 3 frames was read",)
    assert read(data + data[:-1]).notes == ()  # what is cut short is none


def test_a_larger_image_below_a_page_of_a_tiff(read, tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(noise(10, 12, 3), photometric="rgb", subifds=2)
        file.write(noise(5, 6, 3), photometric="rgb", subfiletype=1)
        file.write(noise(40, 50, 3), photometric="rgb")
    note = "only the first of 2 frames was read; another is larger (50 x 40)"
    assert read((tmp_path / "a.tif").read_bytes()).notes == (note,)


def test_a_larger_page_of_a_tiff(read, tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(noise(10, 12, 3), photometric="rgb")
        file.write(noise(40, 50, 3), photometric="rgb")
    note = "only the first of 2 frames was read; another is larger (50 x 40)"
    assert read((tmp_path / "a.tif").read_bytes()).notes == (note,)


def test_what_an_avif_or_heic_holds():
    def box(kind, data):
        return struct.pack(">I", 8 + len(data)) + kind + data

    infe = box(b"infe", b"\2\0\0\0" + struct.pack(">HH", 1, 0) + b"tmap\0")
    iloc = box(b"iloc", b"\0\0\0\0\x44\0" + struct.pack(">HHHHII", 1, 1, 0, 1, 30, 5))
    meta = box(b"meta", bytes(4) + box(b"iinf", bytes(4) + struct.pack(">H", 1) + infe) + iloc)
    assert in_boxes(meta) == ["a gain map for HDR"]
    assert in_boxes(box(b"ftyp", b"heic") + box(b"mpvd", b"")) == ["a video"]
    assert in_boxes(b"urn:mpeg:hevc:2015:auxid:2") == ["a depth map"]
    assert in_boxes(meta.replace(b"tmap", b"av01")) == []


def test_data_of_thermal_cameras_and_content_credentials_are_told(read):
    segment = b"FLIR\0" + bytes(20)
    data = JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + JPEG[2:]
    assert read(data).notes == ("the file also holds thermal data, which were left out",)
    box = b"jumdc2pa" + bytes.fromhex("00110010800000aa00389b71") + b"\3c2pa\0"
    for kind in ("PNG", "WEBP", "AVIF"):
        note = "the file also holds content credentials (C2PA), which were left out"
        assert read(encoded(pillow(noise(24, 32, 3)), kind, exif=b"II*\0\x08\0\0\0\0\0" + box)).notes == (note,)


def test_a_file_that_cannot_be_mapped_is_read_all_the_same(read, monkeypatch):
    def refuse(*_args, **_options):
        raise OSError(19, "No such device")

    monkeypatch.setattr(mmap, "mmap", refuse)
    assert read(JPEG).notes == ()


def test_layers_of_photoshop_in_a_tiff_are_told(read, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise(10, 12, 3), photometric="rgb", extratags=[(37724, 7, 8, bytes(8), True)])
    assert read((tmp_path / "a.tif").read_bytes()).notes == ("Photoshop's layers were left out",)


def test_guides_and_paths_of_photoshop_are_told(read):
    block = b"".join(b"8BIM" + struct.pack(">HHI", kind, 0, 4) + bytes(4) for kind in (0x0408, 0x07D1, 0x03ED))
    segment = b"Photoshop 3.0\0" + block
    data = JPEG[:2] + b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment + JPEG[2:]
    assert read(data).notes == ("Photoshop's guides, paths were left out",)
    assert np.array_equal(read(data).pixels, read(JPEG).pixels)
