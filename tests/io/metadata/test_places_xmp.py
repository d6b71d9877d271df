"""XMP: scaled, kept because it stays true, or dropped with a note."""

import time
from fractions import Fraction

import pytest

from ddnsr_cli.io.metadata.places import FATES, Change, move_xmp

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


def test_regions_in_pixels_and_of_turned_images_go():
    for regions, change in ((REGIONS.replace(b'"normalized"', b'"pixel"'), LARGER), (REGIONS, TURNED)):
        moved, dropped = move_xmp(packet(elements=regions), change)
        assert dropped == ("mwg-rs:Regions",)
        assert moved == packet()


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
