"""What EXIF and XMP say in pixels, bytes or places of the original, with one of three fates.

It is scaled and turned, it stays because it is true of any size, or it is dropped, and a note names it. EXIF is changed
in place; what is not named here stays, for it tells of the camera and the moment. XMP is changed as text: `FATES` lists
it by namespace, and what a listed namespace says beyond is dropped. Sizes and the thumbnail are mended here and by
`exif.mend_exif`; maker notes are whole, whatever they say.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

from ddnsr_cli.io.image import Metadata
from ddnsr_cli.io.metadata.exif import (
    EXIF_IFD,
    INTEROP_IFD,
    RATIONAL,
    RESOLUTION,
    SHORT,
    Block,
    Entry,
    parse_block,
    utf8_xmp,
)

SUBJECT_AREA, SUBJECT_LOCATION = 0x9214, 0xA214
FOCAL_PLANE = ((0xA20E, 0xA20F), (0x920E, 0x920F))
"""Pixels of the sensor per unit, across and down: of EXIF and of TIFF/EP."""

STALE_TAGS = (0x0111, 0x0117, 0x0144, 0x0145, 0x014A, 0x0201, 0x0202, 0x1001, 0x1002)
"""Where pixels lie in the original file, and sizes of an image that this one was made from."""

_MOST_SHORT, _MOST_LONG = (1 << 16) - 1, (1 << 32) - 1
_FLIPPED_ACROSS, _FLIPPED_DOWN = frozenset((2, 3, 7, 8)), frozenset((3, 4, 6, 7))


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is done to the pixels that metadata speak of: turned first, then scaled."""

    width: int
    """Pixels across, as the metadata know them: before the turn."""

    height: int
    """Pixels down, before the turn."""

    orientation: int = 1
    """1 to 8 as in EXIF; 1: nothing is turned."""

    across: Fraction = Fraction(1)
    """How many times as wide the result is as the turned image."""

    down: Fraction = Fraction(1)
    """How many times as high."""

    @property
    def swaps_axes(self) -> bool:
        """Width becomes height."""
        return self.orientation >= 5

    def point(self, x: float, y: float) -> tuple[int, int]:
        """Where a pixel of the original is in the result."""
        if self.orientation in _FLIPPED_ACROSS:
            x = self.width - 1 - x
        if self.orientation in _FLIPPED_DOWN:
            y = self.height - 1 - y
        if self.swaps_axes:
            x, y = y, x
        return round(x * self.across), round(y * self.down)

    def extent(self, width: float, height: float) -> tuple[int, int]:
        """How large an upright rectangle of the original is in the result."""
        if self.swaps_axes:
            width, height = height, width
        return round(width * self.across), round(height * self.down)

    def box(self, x: Decimal, y: Decimal, width: Decimal, height: Decimal) -> tuple[Decimal, Decimal, Decimal, Decimal]:
        """Where a rectangle lies in the turned image: upper left corner and size, all in parts of the whole."""
        if self.orientation in _FLIPPED_ACROSS:
            x = 1 - x - width
        if self.orientation in _FLIPPED_DOWN:
            y = 1 - y - height
        return (y, x, height, width) if self.swaps_axes else (x, y, width, height)


def move_exif(exif: bytes, change: Change) -> tuple[bytes, tuple[str, ...]]:
    """EXIF whose places are those of the result, and the names of what had to go. Damaged EXIF stays as it is."""
    dropped: list[str] = []
    try:
        block = parse_block(exif)
        first = {entry.tag: entry for entry in block.entries(block.first)}
        inner = first[EXIF_IFD].number(block.layout) if EXIF_IFD in first else None
        for directory in (block.first, inner):
            if directory is not None:
                dropped += _move_directory(block, directory, change)
        for tag in STALE_TAGS:
            block.drop(block.first, tag)
        _drop_related_size(block, inner)
        if change.swaps_axes:
            _swap_resolution(block, first)
    except (struct.error, ValueError):
        return exif, ()
    return bytes(block.data), tuple(dropped)


def _swap_resolution(block: Block, first: dict[int, Entry]) -> None:
    """Dots across become dots down, where they differ."""
    both = [first[tag] for tag in RESOLUTION if tag in first]
    if len(both) == 2 and all(entry.kind == RATIONAL and entry.values == 1 for entry in both):
        places = [_place(block, entry, 8) for entry in both]
        across, down = (block.read_at(at, 8) for at in places)
        for at, value in zip(places, (down, across), strict=True):
            block.data[at : at + 8] = value


def _drop_related_size(block: Block, inner: int | None) -> None:
    found = [] if inner is None else [entry for entry in block.entries(inner) if entry.tag == INTEROP_IFD]
    for entry in found[:1]:
        for tag in STALE_TAGS:
            block.drop(entry.number(block.layout), tag)


def _move_directory(block: Block, directory: int, change: Change) -> list[str]:
    dropped = []
    fields = {entry.tag: entry for entry in block.entries(directory)}
    for tag, name in ((SUBJECT_AREA, "SubjectArea"), (SUBJECT_LOCATION, "SubjectLocation")):
        if tag in fields and not _move_area(block, fields[tag], change):
            block.drop(directory, tag)
            dropped.append(name)
    for across, down in FOCAL_PLANE:
        both = [fields[tag] for tag in (across, down) if tag in fields]
        if both and not _move_resolution(block, both, change):
            for tag in (across, down):
                block.drop(directory, tag)
            dropped.append("FocalPlaneResolution")
    return dropped


def _place(block: Block, entry: Entry, size: int) -> int:
    """Where the values of an entry are in the block. Raises ValueError where they run out of it."""
    if size <= len(entry.inline):
        return entry.at + 8
    (at,) = struct.unpack(block.layout.offset_code, entry.inline)
    if at + size > len(block.data):
        raise ValueError("values outside their block")
    return int(at)


def _move_area(block: Block, entry: Entry, change: Change) -> bool:
    """A point, a circle (with its diameter) or a rectangle around a point (with its size); False: it cannot be said."""
    if entry.kind != SHORT or entry.values not in {2, 3, 4}:
        return False
    code = f"{block.layout.order}{entry.values}H"
    at = _place(block, entry, 2 * entry.values)
    x, y, *size = struct.unpack_from(code, block.data, at)
    moved = list(change.point(x, y))
    if len(size) == 1:
        moved.append(max(change.extent(size[0], size[0])))
    elif size:
        moved += change.extent(*size)
    if not all(0 <= value <= _MOST_SHORT for value in moved):
        return False
    struct.pack_into(code, block.data, at, *moved)
    return True


def _move_resolution(block: Block, both: list[Entry], change: Change) -> bool:
    """Pixels per unit of the sensor, of which there are more now; False: it cannot be said."""
    if len(both) != 2 or any(entry.kind != RATIONAL or entry.values != 1 for entry in both):
        return False
    places = [_place(block, entry, 8) for entry in both]
    pairs = [struct.unpack_from(block.layout.order + "II", block.data, at) for at in places]
    if places[0] == places[1] or any(below == 0 for _, below in pairs):
        return False
    values = [Fraction(*pair) for pair in pairs]
    if change.swaps_axes:
        values.reverse()
    for at, value, factor in zip(places, values, (change.across, change.down), strict=True):
        scaled = (value * factor).limit_denominator(_MOST_SHORT)
        if scaled.numerator > _MOST_LONG:
            return False
        struct.pack_into(block.layout.order + "II", block.data, at, scaled.numerator, scaled.denominator)
    return True


def mend_xmp(xmp: bytes, *, width: int, height: int) -> bytes:
    """XMP in UTF-8 that says upright, `width` by `height` pixels, without thumbnails and word of a second packet."""
    xmp = utf8_xmp(xmp)
    for name, value in (
        (b"tiff:Orientation", 1),
        (b"tiff:ImageWidth", width),
        (b"tiff:ImageLength", height),
        (b"exif:PixelXDimension", width),
        (b"exif:PixelYDimension", height),
    ):
        xmp = re.sub(rb"(" + name + rb"(?:=[\"']|>)\s*)\d+", rb"\g<1>%d" % value, xmp)
    return _without_thumbnails(re.sub(rb"\s?xmpNote:HasExtendedXMP=(\"[^\"<]*\"|'[^'<]*')", b"", xmp))


def xmp_of_srgb(xmp: bytes) -> bytes:
    """XMP in UTF-8 that says sRGB where it tells a color space, and no more what mode and profile the colors had."""
    for prefix in _prefixes(xmp, _PHOTOSHOP):
        xmp, _ = _without(xmp, prefix, dropped=_PHOTOSHOP.dropped, kept=_NOTHING)
    return re.sub(rb"(exif:ColorSpace" + _IS + rb")\d+", rb"\g<1>1", xmp)


def _without_thumbnails(xmp: bytes) -> bytes:
    for prefix in (b"xmp", b"xap"):
        start, end = b"<%b:Thumbnails>" % prefix, b"</%b:Thumbnails>" % prefix
        kept, behind = [], 0
        while (at := xmp.find(start, behind)) >= 0 and (stop := xmp.find(end, at)) >= 0:
            kept.append(xmp[behind:at])
            behind = stop + len(end)
        xmp = b"".join((*kept, xmp[behind:]))
    return xmp


_NUMBER = rb"(\d{1,12}(?:\.\d{1,9}|/\d{1,12})?)(?=\s*[\"'<])"
_SIGNED = rb"([+-]?\d{1,12}(?:\.\d{1,20})?(?:[eE][+-]?\d{1,2})?)"
_IS = rb"(?:\s*=\s*[\"']|>)\s*"
_APPLIED = re.compile(
    rb"<[\w.-]+:AppliedToDimensions\b[^<>]*(?:/>|>[^<>]{0,99}(?:<[^<>]{0,999}>[^<>]{0,99}){0,9}?</[\w.-]+:AppliedToDimensions>)"
)
_SIDE = re.compile(rb"(\b[\w.-]+:([wh])" + _IS + rb")" + _NUMBER)
_AREA_NUMBER = re.compile(rb"(\b[\w.-]+:([xywhd])" + _IS + rb")" + _SIGNED + rb"(?=\s*[\"'<])")
_RECTANGLE = re.compile(rb"(:Rectangle" + _IS + rb")" + rb"\s*,\s*".join([_SIGNED] * 4) + rb"(?=\s*[\"'<])")
_SAME_ASPECT = 0.02
_NOTHING = "(?!)"

Turn = Callable[[bytes, bytes, Change], tuple[bytes, list[str]] | None]
"""(XMP, prefix, change) to XMP that is turned, and names of what had to go; None: it cannot be turned, and all goes."""


def _plain(number: Decimal) -> bytes:
    return f"{number:f}".encode()


def _inside(xmp: bytes, name: bytes, turn: Callable[[bytes], bytes | None]) -> bytes | None:
    """XMP whose elements of a name are changed each; None: one has no end, or cannot be changed."""
    starts = re.compile(rb"<" + re.escape(name) + rb"(?=[\s/>])")
    parts, behind = [], 0
    while found := starts.search(xmp, behind):
        end = _end_of_element(xmp, found.start(), name)
        turned = None if end is None else turn(xmp[found.start() : end])
        if end is None or turned is None:
            return None
        parts += [xmp[behind : found.start()], turned]
        behind = end
    return b"".join((*parts, xmp[behind:]))


def _turn_regions(xmp: bytes, prefix: bytes, change: Change) -> tuple[bytes, list[str]] | None:
    """Regions of the Metadata Working Group: a center and a size. They are of the stored image, unless the dimensions
    that they apply to are those of the upright one alone."""
    if prefix + b":Rotation" in xmp:
        return None
    sides = [
        {side[2]: float(Fraction(side[3].decode())) for side in _SIDE.finditer(dimensions) if b"/" not in side[3]}
        for dimensions in _APPLIED.findall(xmp)
    ]
    aspects = [side[b"w"] / side[b"h"] for side in sides if side.get(b"w") and side.get(b"h")]
    stored, upright = (
        all(abs(aspect / ratio - 1) < _SAME_ASPECT for aspect in aspects)
        for ratio in (change.width / change.height, change.height / change.width)
    )
    if not stored:
        return (xmp, []) if upright and change.swaps_axes else None
    turned = _inside(xmp, prefix + b":Area", lambda area: _turned_area(area, change))
    if turned is not None and change.swaps_axes:
        turned = _APPLIED.sub(lambda found: _exchanged(found[0], _SIDE, b"w", b"h"), turned)
    return None if turned is None else (turned, [])


def _turned_area(area: bytes, change: Change) -> bytes | None:
    numbers = _AREA_NUMBER.findall(area)
    values = {letter: Decimal(number.decode()) for _, letter, number in numbers}
    # what a diameter of 1 means once the sides are exchanged, programs do not agree on
    if len(values) != len(numbers) or not {b"x", b"y"} <= values.keys() or (b"d" in values and change.swaps_axes):
        return None
    x, y, *_ = change.box(values[b"x"], values[b"y"], Decimal(0), Decimal(0))
    moved = {**values, b"x": x, b"y": y}
    area = _AREA_NUMBER.sub(lambda found: found[1] + _plain(moved[found[2]]), area)
    return _exchanged(area, _AREA_NUMBER, b"w", b"h") if change.swaps_axes else area


def _exchanged(text: bytes, pattern: re.Pattern[bytes], one: bytes, other: bytes) -> bytes:
    """Two values (group 3) each in the place of the other, by their names (group 2)."""
    values = {found[2]: found[3] for found in pattern.finditer(text)}
    partner = {one: other, other: one}
    return pattern.sub(lambda found: found[1] + values.get(partner.get(found[2], found[2]), found[3]), text)


def _turn_rectangles(xmp: bytes, prefix: bytes, change: Change) -> tuple[bytes, list[str]] | None:
    """Microsoft's regions: an upper left corner and a size."""
    turned = _inside(xmp, prefix + b":RegionInfo", lambda info: _turned_rectangles(info, change))
    return None if turned is None else (turned, [])


def _turned_rectangles(info: bytes, change: Change) -> bytes | None:
    turned, count = _RECTANGLE.subn(
        lambda found: (
            found[1] + b", ".join(map(_plain, change.box(*(Decimal(found[at].decode()) for at in range(2, 6)))))
        ),
        info,
    )
    return turned if count == len(re.findall(rb"(?<!/)\b[\w.-]+:Rectangle" + _IS, info)) else None


_PLACES_OF_PANORAMA = (
    (_FLIPPED_ACROSS, b"CroppedAreaLeftPixels", b"CroppedAreaImageWidthPixels", b"FullPanoWidthPixels"),
    (_FLIPPED_DOWN, b"CroppedAreaTopPixels", b"CroppedAreaImageHeightPixels", b"FullPanoHeightPixels"),
    (
        _FLIPPED_ACROSS,
        b"LargestValidInteriorRectLeft",
        b"LargestValidInteriorRectWidth",
        b"CroppedAreaImageWidthPixels",
    ),
    (_FLIPPED_DOWN, b"LargestValidInteriorRectTop", b"LargestValidInteriorRectHeight", b"CroppedAreaImageHeightPixels"),
)
_ROLL = b"PoseRollDegrees"


def _turn_panorama(xmp: bytes, prefix: bytes, change: Change) -> tuple[bytes, list[str]] | None:
    """Mirrored or upside down a sphere stays one, about the same center. On its side it is in no projection that has a
    name: such a panorama stays only if its size says that it was told of the upright image."""
    field = re.compile(rb"(\b" + re.escape(prefix) + rb":([\w.-]+)" + _IS + rb")" + _SIGNED + rb"(?=\s*[\"'<])")
    values = {found[2]: Decimal(found[3].decode()) for found in field.finditer(xmp)}
    size = values.get(b"CroppedAreaImageWidthPixels"), values.get(b"CroppedAreaImageHeightPixels")
    if change.swaps_axes:
        told = size == (Decimal(change.height), Decimal(change.width)) and change.height != change.width
        return (xmp, []) if told else None
    moved = {}
    for orientations, start, length, whole in _PLACES_OF_PANORAMA:
        if start in values and change.orientation in orientations:
            if length not in values or whole not in values:
                return None
            moved[start] = values[whole] - values[start] - values[length]
    if _ROLL in values:
        roll = values[_ROLL] if change.orientation == 3 else -values[_ROLL]
        roll += 180 if change.orientation in _FLIPPED_DOWN else 0
        moved[_ROLL] = roll - 360 if roll > 180 else roll
    if b"StereoMode" in xmp or any(value < 0 for name, value in moved.items() if name != _ROLL):
        return None
    xmp = field.sub(lambda found: found[1] + _plain(moved[found[2]]) if found[2] in moved else found[0], xmp)
    return _without(xmp, prefix, dropped="InitialView\\w+", kept=_NOTHING)


def _turn_focal_plane(xmp: bytes, prefix: bytes, change: Change) -> tuple[bytes, list[str]] | None:
    """Across becomes down, and down across."""
    field = re.compile(rb"(\b" + re.escape(prefix) + rb":FocalPlane([XY])Resolution" + _IS + rb")" + _NUMBER)
    if change.swaps_axes and len({found[2] for found in field.finditer(xmp)}) == 1:
        return None
    return (_exchanged(xmp, field, b"X", b"Y") if change.swaps_axes else xmp), []


@dataclass(frozen=True, kw_only=True)
class Namespace:
    """What becomes of the properties of one namespace; of those it does not list: dropped."""

    prefix: str
    """The usual one; a packet may declare another."""

    uri: str

    across: tuple[str, ...] = ()
    """Pixels across: scaled."""

    down: tuple[str, ...] = ()
    """Pixels down: scaled."""

    kept: str = ""
    """A pattern of names that stay, because they are true of any size; where they cannot be turned they go as well."""

    turn: Turn | None = None
    """How they are turned with the image; None: they cannot be."""

    kept_turned: str = ""
    """A pattern of names that stay even then."""

    unless: str = "(?!)"
    """A pattern in the packet that says that these are in pixels after all, and go."""

    dropped: str = r"[\w.-]+"
    """A pattern of names that go. By default all that is not listed."""


FATES = (
    Namespace(
        prefix="GPano",
        uri="http://ns.google.com/photos/1.0/panorama/",
        across=(
            "FullPanoWidthPixels",
            "CroppedAreaImageWidthPixels",
            "CroppedAreaLeftPixels",
            "LargestValidInteriorRectLeft",
            "LargestValidInteriorRectWidth",
        ),
        down=(
            "FullPanoHeightPixels",
            "CroppedAreaImageHeightPixels",
            "CroppedAreaTopPixels",
            "LargestValidInteriorRectTop",
            "LargestValidInteriorRectHeight",
        ),
        kept="ProjectionType|UsePanoramaViewer|Pose(?:Heading|Pitch|Roll)Degrees|Initial\\w+|StereoMode",
        turn=_turn_panorama,
        kept_turned="StitchingSoftware|CaptureSoftware|FirstPhotoDate|LastPhotoDate|SourcePhotosCount|ExposureLockUsed",
    ),
    # in parts of the whole, and true of any size; `AppliedToDimensions` is scaled with them
    Namespace(
        prefix="mwg-rs",
        uri="http://www.metadataworkinggroup.com/schemas/regions/",
        kept="Regions",
        turn=_turn_regions,
        unless=r"stArea:unit(?:=[\"']|>)\s*pixel",
    ),
    Namespace(prefix="MP", uri="http://ns.microsoft.com/photo/1.2/", kept="RegionInfo", turn=_turn_rectangles),
    Namespace(prefix="acdsee-rs", uri="http://ns.acdsee.com/regions/", kept="Regions"),
    Namespace(
        prefix="Iptc4xmpExt",
        uri="http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
        kept="ImageRegion",
        unless=r"rbUnit(?:=[\"']|>)\s*pixel",
        dropped="ImageRegion",
    ),
    # gain maps, depth maps, videos and second images: they do not come along
    Namespace(prefix="hdrgm", uri="http://ns.adobe.com/hdr-gain-map/1.0/"),
    Namespace(prefix="HDRGainMap", uri="http://ns.apple.com/HDRGainMap/1.0/"),
    Namespace(prefix="apdi", uri="http://ns.apple.com/pixeldatainfo/1.0/"),
    Namespace(prefix="Container", uri="http://ns.google.com/photos/1.0/container/"),
    Namespace(prefix="GContainer", uri="http://ns.google.com/photos/1.0/container/"),
    Namespace(
        prefix="GCamera",
        uri="http://ns.google.com/photos/1.0/camera/",
        kept_turned="BurstID|BurstPrimary|CreationDate\\w*|SpecialTypeID|DisableAutoCreation|DisableSuggestedAction\\w*"
        "|hdrp_makernote|shot_log_data|HdrPlusMakernote|PortraitVersion|PortraitRequest|DisableGyro\\w*",
    ),
    Namespace(prefix="OpCamera", uri="http://ns.oplus.com/photos/1.0/camera/"),
    Namespace(prefix="MiCamera", uri="http://ns.xiaomi.com/photos/1.0/camera/", dropped="\\w*(?:Video|Meta)\\w*"),
    Namespace(prefix="GDepth", uri="http://ns.google.com/photos/1.0/depthmap/"),
    Namespace(prefix="GImage", uri="http://ns.google.com/photos/1.0/image/"),
    Namespace(prefix="GAudio", uri="http://ns.google.com/photos/1.0/audio/"),
    Namespace(prefix="GFocus", uri="http://ns.google.com/photos/1.0/focus/"),
    Namespace(prefix="Device", uri="http://ns.google.com/photos/dd/1.0/device/"),
    Namespace(prefix="XMPMeta", uri="http://ns.xmpmeta.com/"),
    Namespace(
        prefix="crs",
        uri="http://ns.adobe.com/camera-raw-settings/1.0/",
        dropped="Crop\\w+|HasCrop|Retouch\\w+|RedEyeInfo|\\w+BasedCorrections|Perspective\\w+|Upright\\w+",
    ),
    Namespace(
        prefix="drone-dji",
        uri="http://www.dji.com/drone-dji/1.0/",
        across=("CalibratedFocalLength", "CalibratedOpticalCenterX"),
        down=("CalibratedOpticalCenterY",),
        dropped="DewarpData|DewarpFlag|Calibrated\\w+",
    ),
    Namespace(
        prefix="exif",
        uri="http://ns.adobe.com/exif/1.0/",
        across=("FocalPlaneXResolution",),
        down=("FocalPlaneYResolution",),
        turn=_turn_focal_plane,
        dropped="SubjectArea|SubjectLocation|FocalPlane[XY]Resolution|NativeDigest",
    ),
    Namespace(prefix="tiff", uri="http://ns.adobe.com/tiff/1.0/", dropped="NativeDigest"),
    Namespace(prefix="xmpTPg", uri="http://ns.adobe.com/xap/1.0/t/pg/", dropped="MaxPageSize"),
    Namespace(prefix="xmpDM", uri="http://ns.adobe.com/xmp/1.0/DynamicMedia/", dropped="videoFrameSize|Tracks|markers"),
)
"""ExifTool's list of XMP tags, walked once. Namespaces beyond it say nothing of places that we know of."""

_PHOTOSHOP = Namespace(prefix="photoshop", uri="http://ns.adobe.com/photoshop/1.0/", dropped="ColorMode|ICCProfile")

_LIKELY = (
    r"\w*(?:Pixels|MicroVideo|MotionPhoto|GainMap|DepthMap|FaceRegion|SubjectArea|CropRect|RegionList|RegionInfo)\w*"
)
_UNSAID = frozenset(("NativeDigest",))
_MOST_NAMED = 6
_MOST_OPEN = 8  # elements without an end: each is looked for to the end of the packet


def move_xmp(xmp: bytes, change: Change) -> tuple[bytes, tuple[str, ...]]:
    """XMP whose places are those of the result, and the names of what had to go."""
    dropped: list[str] = []
    known: set[bytes] = set()
    for space in FATES:
        for prefix in sorted(_prefixes(xmp, space)):
            known.add(prefix)
            xmp, gone = _move_namespace(xmp, prefix, space, change) if prefix + b":" in xmp else (xmp, [])
            dropped += gone
    xmp = _APPLIED.sub(lambda found: _scaled_dimensions(found[0], change), xmp)
    for prefix in sorted(set(re.findall(rb"xmlns:([\w.-]+)\s*=", xmp)) - known):
        xmp, gone = _without(xmp, prefix, dropped=_LIKELY, kept=_NOTHING)
        dropped += gone
    return xmp, tuple(dict.fromkeys(name for name in dropped if name.split(":")[1] not in _UNSAID))


def _prefixes(xmp: bytes, space: Namespace) -> set[bytes]:
    declared = re.findall(rb"xmlns:([\w.-]+)\s*=\s*[\"']" + re.escape(space.uri.encode()) + rb"[\"']", xmp)
    return set(declared) or ({space.prefix.encode()} if f"xmlns:{space.prefix}".encode() not in xmp else set())


def _move_namespace(xmp: bytes, prefix: bytes, space: Namespace, change: Change) -> tuple[bytes, list[str]]:
    before: list[str] = []
    if change.orientation != 1:
        turned = space.turn(xmp, prefix, change) if space.turn else None
        if turned is None:
            return _without(xmp, prefix, dropped=space.dropped, kept=space.kept_turned or _NOTHING)
        xmp, before = turned
    for names, factor in ((space.across, change.across), (space.down, change.down)):
        for name in names if factor != 1 else ():
            head = rb"(\b" + re.escape(prefix) + b":" + name.encode() + rb"(?:\s*=\s*[\"']|>)\s*)"
            xmp = re.sub(head + _NUMBER, lambda found: found[1] + _times(found[2], factor), xmp)  # noqa: B023
    kept = (*space.across, *space.down, space.kept_turned)
    if not re.search(space.unless.encode(), xmp):
        kept = (*kept, space.kept)
    xmp, gone = _without(xmp, prefix, dropped=space.dropped, kept="|".join(filter(None, kept)) or _NOTHING)
    return xmp, before + gone


def _times(number: bytes, factor: Fraction) -> bytes:
    """A whole number, a fraction or one with a point, as often as `factor` says, in the same form."""
    text = number.decode()
    if "/" in text:
        above, below = (int(part) for part in text.split("/"))
        scaled = (Fraction(above, below) * factor).limit_denominator(1 << 16) if below else Fraction(0)
        return f"{scaled.numerator}/{scaled.denominator}".encode()
    return (f"{float(text) * float(factor):.6f}" if "." in text else str(round(int(text) * factor))).encode()


def _scaled_dimensions(element: bytes, change: Change) -> bytes:
    factors = {b"w": change.across, b"h": change.down}
    return _SIDE.sub(lambda found: found[1] + _times(found[3], factors[found[2]]), element)


def _without(xmp: bytes, prefix: bytes, *, dropped: str, kept: str) -> tuple[bytes, list[str]]:
    """A packet without the properties of a namespace that `dropped` matches and `kept` does not; what these hold stays
    or goes with them."""
    name = re.escape(prefix) + rb":([\w.-]+)"
    starts = re.compile(rb"<" + name + rb"(?=[\s/>])|\s" + name + rb"\s*=\s*(?:\"[^\"<]*\"|'[^'<]*')")
    parts: list[bytes] = []
    gone: list[str] = []
    behind, at, patience = 0, 0, _MOST_OPEN
    while found := starts.search(xmp, at):
        local = (found[1] or found[2]).decode()
        stays, goes = re.fullmatch(kept, local), re.fullmatch(dropped, local)
        at = found.end()
        if found[1] and (stays or goes) and patience:
            end = _end_of_element(xmp, found.start(), prefix + b":" + found[1])
            patience -= end is None
            at = end or at
        if goes and not stays:
            parts.append(xmp[behind : found.start()])
            behind = at
            gone.append(f"{prefix.decode()}:{local}")
    return b"".join((*parts, xmp[behind:])), gone


def _end_of_element(xmp: bytes, start: int, name: bytes) -> int | None:
    """Behind the end of the element that begins at `start`; None: it has none."""
    tags = re.compile(rb"<(/?)" + re.escape(name) + rb"(?=[\s/>])[^<>]*?(/?)>")
    depth = 0
    for tag in tags.finditer(xmp, start):
        depth += 0 if tag[2] else -1 if tag[1] else 1
        if depth <= 0:
            return tag.end()
    return None


def move_places(metadata: Metadata, change: Change) -> tuple[Metadata, tuple[str, ...]]:
    """Metadata whose places are those of the result, and a note on those that could not come along."""
    exif, of_exif = (None, ()) if metadata.exif is None else move_exif(metadata.exif, change)
    xmp, of_xmp = (None, ()) if metadata.xmp is None else move_xmp(metadata.xmp, change)
    names = [*of_exif, *of_xmp]
    return replace(metadata, exif=exif, xmp=xmp), (_left_out(names),) if names else ()


def _left_out(names: list[str]) -> str:
    listed = ", ".join(names[:_MOST_NAMED])
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"metadata that tell places or parts of the original file were left out ({listed}{more})"
