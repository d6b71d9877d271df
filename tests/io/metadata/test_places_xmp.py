"""XMP: scaled, kept because it stays true, or dropped with a note."""

import re
import time
from fractions import Fraction

import numpy as np
import pytest

from ddnsr_cli.io.metadata.places import FATES, Change, move_xmp
from ddnsr_cli.io.read import read_image
from tests.helpers.image_files import UNDO_TURN, encoded, noise, pillow, png_chunk

LARGER = Change(width=64, height=48, across=Fraction(4), down=Fraction(2))
TURNED = Change(width=64, height=48, orientation=6)
STAYS = b'dc:title="A" GPanorama:Width="7"'


def packet(attributes=b"", elements=b"", spaces=()):
    declared = b" ".join(
        f'xmlns:{space.prefix}="{space.uri}"'.encode() for space in FATES if not spaces or space.prefix in spaces
    )
    return (
        b"<x:xmpmeta><rdf:Description "
        + declared
        + b" "
        + STAYS
        + b" "
        + attributes
        + b">"
        + elements
        + b"</rdf:Description></x:xmpmeta>"
    )


def test_panoramas_are_scaled_in_both_forms():
    attributes = (
        b'GPano:FullPanoWidthPixels="128" GPano:CroppedAreaTopPixels = "8" GPano:ProjectionType="equirectangular"'
    )
    elements = b"<GPano:FullPanoHeightPixels>64</GPano:FullPanoHeightPixels>"
    moved, dropped = move_xmp(packet(attributes, elements), LARGER)
    assert dropped == ()
    assert b'FullPanoWidthPixels="512"' in moved
    assert b'CroppedAreaTopPixels = "16"' in moved
    assert b"<GPano:FullPanoHeightPixels>128<" in moved
    assert b"equirectangular" in moved


def test_another_prefix_is_the_same_namespace():
    data = b'<rdf:Description xmlns:pano="http://ns.google.com/photos/1.0/panorama/" pano:FullPanoWidthPixels="128"/>'
    assert b'pano:FullPanoWidthPixels="512"' in move_xmp(data, LARGER)[0]


REGIONS = (
    b'<mwg-rs:Regions rdf:parseType="Resource">'
    b'<mwg-rs:AppliedToDimensions stDim:w="64" stDim:h="48" stDim:unit="pixel"/>'
    b'<mwg-rs:RegionList><rdf:Bag><rdf:li><rdf:Description mwg-rs:Name="A"><mwg-rs:Area stArea:x="0.25" stArea:unit='
    b'"normalized"/></rdf:Description></rdf:li></rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>'
)


def test_regions_in_parts_stay_and_their_dimensions_are_scaled():
    moved, dropped = move_xmp(packet(elements=REGIONS), LARGER)
    assert dropped == ()
    assert moved == packet(elements=REGIONS.replace(b'stDim:w="64" stDim:h="48"', b'stDim:w="256" stDim:h="96"'))
    spelled = REGIONS.replace(
        b' stDim:w="64" stDim:h="48" stDim:unit="pixel"/>',
        b"><stDim:w>64</stDim:w><stDim:h>48</stDim:h></mwg-rs:AppliedToDimensions>",
    )
    assert b"<stDim:w>256</stDim:w><stDim:h>96</stDim:h>" in move_xmp(packet(elements=spelled), LARGER)[0]


@pytest.mark.parametrize(
    ("regions", "change"),
    [
        (REGIONS.replace(b'"normalized"', b'"pixel"'), LARGER),
        (REGIONS.replace(b'stDim:w="64"', b'stDim:w="99"'), TURNED),
        (REGIONS.replace(b'stArea:x="0.25"', b'stArea:x="0.25" stArea:y="0.5" stArea:d="0.1"'), TURNED),
        (REGIONS.replace(b'Name="A"', b'Rotation="1"'), TURNED),
        (REGIONS, TURNED),
    ],
    ids=["pixels", "another shape", "a circle on its side", "a turned region", "half a center"],
)
def test_regions_that_cannot_be_told_go(regions, change):
    moved, dropped = move_xmp(packet(elements=regions), change)
    assert dropped == ("mwg-rs:Regions",)
    assert moved == packet()


def marked(orientation):
    """Where a rectangle that is upright the same in every orientation is in stored pixels (48, 64): left, top, width
    and height in parts."""
    seen = np.zeros((48, 64) if orientation < 5 else (64, 48), np.uint8)
    seen[12:16, 8:16] = 255
    stored = UNDO_TURN[orientation](seen)
    y, x = np.nonzero(stored)
    return x.min() / 64, y.min() / 48, (np.ptp(x) + 1) / 64, (np.ptp(y) + 1) / 48


@pytest.mark.parametrize("orientation", range(1, 9))
def test_regions_are_turned_with_the_image(orientation):
    x, y, width, height = marked(orientation)
    area = f'stArea:x="{x + width / 2}" stArea:y="{y + height / 2}" stArea:w="{width}" stArea:h="{height}"'
    faces = REGIONS.replace(b'stArea:x="0.25"', area.encode())
    corner = f"<MPReg:Rectangle>{x}, {y}, {width}, {height}</MPReg:Rectangle>"
    people = b"<MP:RegionInfo><rdf:li>" + corner.encode() + b"</rdf:li></MP:RegionInfo>"
    change = Change(width=64, height=48, orientation=orientation)
    moved, dropped = move_xmp(packet(elements=faces + people), change)
    across, down = (64, 48) if orientation < 5 else (48, 64)
    center = [float(number) for number in re.findall(rb"stArea:[xywh]=\"([0-9.]+)", moved)]
    rectangle = [float(number) for number in re.findall(rb"Rectangle>([^<]+)", moved)[0].split(b",")]
    assert dropped == ()
    assert center == pytest.approx([12 / across, 14 / down, 8 / across, 4 / down])
    assert rectangle == pytest.approx([8 / across, 12 / down, 8 / across, 4 / down])
    assert f'stDim:w="{across}" stDim:h="{down}"'.encode() in moved


def test_regions_told_of_the_upright_image_stay():
    upright = packet(elements=REGIONS.replace(b'stDim:w="64" stDim:h="48"', b'stDim:w="48" stDim:h="64"'))
    assert move_xmp(upright, TURNED) == (upright, ())


def panorama(width=64, height=48, extra=b""):
    return packet(
        b'GPano:ProjectionType="equirectangular" GPano:FullPanoWidthPixels="128" GPano:FullPanoHeightPixels="64"'
        + f' GPano:CroppedAreaImageWidthPixels="{width}" GPano:CroppedAreaImageHeightPixels="{height}"'.encode()
        + b' GPano:CroppedAreaLeftPixels="10" GPano:CroppedAreaTopPixels="4" GPano:PoseRollDegrees="-5.5"'
        + extra
    )


@pytest.mark.parametrize(
    ("orientation", "left", "top", "roll"), [(2, 54, 4, "5.5"), (3, 54, 12, "174.5"), (4, 10, 12, "-174.5")]
)
def test_panoramas_are_turned_upside_down_and_mirrored(orientation, left, top, roll):
    change = Change(width=64, height=48, orientation=orientation)
    moved, dropped = move_xmp(panorama(extra=b' GPano:InitialViewPitchDegrees="3"'), change)
    assert dropped == ("GPano:InitialViewPitchDegrees",)
    for name, value in (("CroppedAreaLeftPixels", left), ("CroppedAreaTopPixels", top), ("FullPanoWidthPixels", 128)):
        assert f'GPano:{name}="{value}"'.encode() in moved
    assert f'PoseRollDegrees="{roll}"'.encode() in moved
    assert b"equirectangular" in moved


def test_a_panorama_on_its_side_stays_only_if_told_of_the_upright_image():
    assert move_xmp(panorama(48, 64), TURNED) == (panorama(48, 64), ())
    moved, dropped = move_xmp(panorama(64, 48), TURNED)
    assert "GPano:FullPanoWidthPixels" in dropped
    assert b"GPano:" not in moved.replace(b"xmlns:GPano", b"")


def test_the_focal_plane_of_xmp_is_turned():
    both = b'exif:FocalPlaneXResolution="5000/1" exif:FocalPlaneYResolution="4000/1"'
    turned = b'exif:FocalPlaneXResolution="4000/1" exif:FocalPlaneYResolution="5000/1"'
    assert move_xmp(packet(both), TURNED) == (packet(turned), ())
    assert move_xmp(packet(both[:37]), TURNED)[1] == ("exif:FocalPlaneXResolution",)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-32-be", "utf-16", "utf-32"])
def test_other_forms_of_unicode_become_utf8(tmp_path, kind, encoding):
    text = packet(
        b'tiff:Orientation="6" dc:title="\xc3\xa9"', REGIONS.replace(b"0.25", b'0.25" stArea:y="0.5')
    ).decode()
    image = pillow(noise(48, 64, 3))
    if kind == "PNG":
        data = encoded(image, kind)
        chunk = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + text.encode(encoding))
        data = data[:33] + chunk + data[33:]
    else:
        data = encoded(image, kind, xmp=text.encode(encoding))
    (tmp_path / "a").write_bytes(data)
    read = read_image(tmp_path / "a")
    assert (read.width, read.height) == (48, 64)
    assert 'dc:title="é"'.encode() in read.metadata.xmp
    assert b'stArea:x="0.5" stArea:y="0.25"' in read.metadata.xmp


@pytest.mark.parametrize(
    ("attributes", "elements", "dropped"),
    [
        (b'hdrgm:Version="1.0" hdrgm:GainMapMax="2"', b"", ("hdrgm:Version", "hdrgm:GainMapMax")),
        (b'GCamera:MicroVideoOffset="99" GCamera:BurstID="b"', b"", ("GCamera:MicroVideoOffset",)),
        (b"", b"<Container:Directory><Container:Item/></Container:Directory>", ("Container:Directory",)),
        (b'crs:CropTop="0.1" crs:HasCrop="True" crs:Sharpness="25"', b"", ("crs:CropTop", "crs:HasCrop")),
        (b'GPano:NewThingPixels="7"', b"", ("GPano:NewThingPixels",)),
        (b"", b"<exif:SubjectArea><rdf:Seq><rdf:li>3</rdf:li></rdf:Seq></exif:SubjectArea>", ("exif:SubjectArea",)),
        (b'drone-dji:DewarpData="x" drone-dji:RelativeAltitude="+1"', b"", ("drone-dji:DewarpData",)),
        (b'tiff:NativeDigest="256;ABC"', b"", ()),
    ],
)  # fmt: skip
def test_what_does_not_come_along_is_dropped_and_named(attributes, elements, dropped):
    moved, names = move_xmp(packet(attributes, elements), LARGER)
    assert names == dropped
    for name in (*dropped, "tiff:NativeDigest"):
        assert name.encode() not in moved
    for kept in (b"GCamera:BurstID", b"crs:Sharpness", b"drone-dji:RelativeAltitude"):
        assert (kept in moved) == (kept in attributes)
    assert STAYS in moved


def test_unknown_namespaces_with_telling_names_go():
    data = b'<rdf:Description xmlns:New="http://example.com/" New:MotionPhotoLength="7" New:Title="x"/>'
    moved, dropped = move_xmp(data, LARGER)
    assert dropped == ("New:MotionPhotoLength",)
    assert b'New:Title="x"' in moved


def test_fractions_are_scaled_as_fractions():
    assert (
        b'exif:FocalPlaneXResolution="20000/1"' in move_xmp(packet(b'exif:FocalPlaneXResolution="5000/1"'), LARGER)[0]
    )


def test_moving_twice_by_nothing_changes_nothing():
    data = packet(b'GPano:FullPanoWidthPixels="128" hdrgm:Version="1"', REGIONS)
    once, _ = move_xmp(data, Change(width=64, height=48))
    assert move_xmp(once, Change(width=64, height=48)) == (once, ())


def test_hostile_packets_take_no_time():
    began = time.process_time()
    for piece in (
        b"<GPano:x>",
        b"<mwg-rs:AppliedToDimensions ",
        b" hdrgm:a='",
        b"<mwg-rs:AppliedToDimensions>",
        b"xmlns:a=",
    ):
        move_xmp(packet(elements=piece * 100_000), LARGER)
    assert time.process_time() - began < 5
