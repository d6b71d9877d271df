"""Files and blocks made byte by byte, so that tests do not lean on the code they test."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pyvips
from PIL import Image, ImageCms

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GRAY = SRGB[:16] + b"GRAY" + SRGB[20:]  # good enough for code that only looks at the header

FORMATS = {
    "PNG": ".png",
    "JPEG": ".jpg",
    "WEBP": ".webp",
    "TIFF": ".tif",
    "AVIF": ".avif",
    "BMP": ".bmp",
    "GIF": ".gif",
}


# By orientation: what makes stored pixels of those to be seen. EXIF tells the other way, and here it is undone.
UNDO_TURN = {
    1: lambda seen: seen,
    2: lambda seen: seen[:, ::-1],
    3: lambda seen: np.rot90(seen, 2),
    4: lambda seen: seen[::-1],
    5: lambda seen: seen.swapaxes(0, 1),
    6: lambda seen: np.rot90(seen, 1),  # shown turned clockwise, so stored turned the other way
    7: lambda seen: np.rot90(seen, 2).swapaxes(0, 1),
    8: lambda seen: np.rot90(seen, -1),
}


def noise(height, width, channels, dtype=np.uint8, seed=0):
    """(H, W, C) of random samples over the whole range."""
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)


def smooth(height, width):
    """(H, W, 3) uint8 that lossy formats keep well, different in every corner."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 180 / width + 40, y * 180 / height + 40, (x + y) * 90 / (width + height) + 80], 2).astype("u1")


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *, bits, color_type, rows, chunks=(), late_chunks=()):
    """A PNG; rows: its unfiltered rows, packed as the depth wants."""
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    middle = [*chunks, (b"IDAT", data), *late_chunks]
    parts = [png_chunk(b"IHDR", header), *(png_chunk(*chunk) for chunk in middle), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def deep_png(samples, chunks=()):
    """A 16-bit PNG of samples (H, W, C)."""
    height, width, channels = samples.shape
    rows = [row.astype(">u2").tobytes() for row in samples]
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    return png(width, height, bits=16, color_type=color_type, rows=rows, chunks=chunks)


def packed_gray(levels, bits):
    """Rows of gray levels (H, W) at 1, 2 or 4 bits."""
    per_byte = 8 // bits
    padded = np.pad(levels, ((0, 0), (0, -levels.shape[1] % per_byte)))
    groups = padded.reshape(len(levels), -1, per_byte).astype(np.uint8)
    shifts = np.arange(per_byte)[::-1] * bits
    return [(group << shifts).sum(axis=1).astype(np.uint8).tobytes() for group in groups]


def vips_image(samples, interpretation):
    """Samples (H, W, C) for libvips."""
    height, width, channels = samples.shape
    kind = {"uint8": "uchar", "uint16": "ushort", "uint32": "uint", "int16": "short", "float32": "float"}
    image = pyvips.Image.new_from_memory(samples.tobytes(), width, height, channels, kind[samples.dtype.name])
    return image.copy(interpretation=interpretation)


def encoded(image, file_format, **options):
    """A Pillow image as the bytes of a file."""
    buffer = BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def exif_block(order="<", *, orientation=6, width=640, height=480, artist="Zoë", thumbnail=b"\xff\xd8thumb\xff\xd9"):
    """EXIF with camera, maker note, GPS, sizes and a thumbnail, packed by hand; the thumbnail is at the end."""
    maker_note, artist = b"MAKER\0\1\2\3" * 9, artist.encode() + b"\0"
    kinds = {1: "B", 2: "s", 3: "H", 4: "I", 7: "s"}

    def directory(at, fields, following=0):
        end = at + 2 + 12 * len(fields) + 4
        table, tail = struct.pack(order + "H", len(fields)), b""
        for tag, kind, value in fields:
            is_text = isinstance(value, bytes)
            data = value if is_text else struct.pack(order + kinds[kind], value)
            place = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack(order + "I", end + len(tail))
            table += struct.pack(order + "HHI", tag, kind, len(data) if is_text else 1) + place
            tail += data + bytes(len(data) % 2) if len(data) > 4 else b""
        return table + struct.pack(order + "I", following) + tail

    camera = [(0x100, 3, width), (0x10F, 2, b"Camera\0"), (0x112, 3, orientation), (0x13B, 2, artist)]

    def block(exif_at, gps_at, second_at, thumbnail_at):
        first = directory(
            8,
            [*camera, (0x8769, 4, exif_at), (0x8825, 4, gps_at)],
            second_at,
        )
        exif = directory(exif_at, [(0x927C, 7, maker_note), (0xA002, 3, width), (0xA003, 4, height)])
        gps = directory(gps_at, [(1, 2, b"N\0"), (3, 2, b"E\0")])
        second = directory(second_at, [(0x201, 4, thumbnail_at), (0x202, 4, len(thumbnail))])
        return first, exif, gps, second

    sizes = [len(part) for part in block(0, 0, 0, 0)]
    places = [8 + sum(sizes[: index + 1]) for index in range(4)]
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    return head + b"".join(block(*places)) + thumbnail


def cmyk_profile():
    """A CMYK profile that shows cyan ink as red, unlike any rule of thumb; other inks darken."""
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0))
    lut += struct.pack(">9i", *(65536 if index % 4 == 0 else 0 for index in range(9)))
    lut += bytes(range(256)) * 4
    for index in range(16):
        cyan, magenta, yellow, black = (index >> shift & 1 for shift in (3, 2, 1, 0))
        light = 255 * (1 - black) * (1 - 0.5 * max(cyan, magenta, yellow))
        lut += bytes((int(light), 208 if cyan > black else 128, 195 if cyan > black else 128))
    lut += bytes(range(256)) * 3
    return profile(b"CMYK", b"prtr", b"Lab ", b"A2B0", lut)


def linear_gray_profile():
    """A gray profile whose samples are amounts of light."""
    return profile(b"GRAY", b"mntr", b"XYZ ", b"kTRC", b"curv\0\0\0\0\0\0\0\0")


def profile(space, device, connection, name, data):
    """An ICC profile with one tag that matters."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    text = b"text\0\0\0\0none\0\0\0\0"
    described = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78)
    tags = [(name, data), (b"wtpt", white), (b"cprt", text), (b"desc", described + bytes(-len(described) % 4))]
    at, table, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for tag, content in tags:
        table += tag + struct.pack(">II", at + len(body), len(content))
        body += content
    header = struct.pack(">I4sI4s4s4s", at + len(body), b"lcms", 0x02400000, device, space, connection)
    header = header.ljust(36, b"\0") + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + body


def pillow(samples):
    """An 8-bit Pillow image of samples (H, W, C)."""
    return Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)


def planar_tiff(samples):
    """A bare 16-bit RGB TIFF, little-endian, one strip a channel."""
    height, width, channels = samples.shape
    planes = [samples[..., channel].astype("<u2").tobytes() for channel in range(channels)]
    tail_at = 8 + 2 + 12 * 10 + 4
    strips_at = tail_at + 2 * channels + 8 * channels
    offsets = [strips_at + sum(map(len, planes[:index])) for index in range(channels)]
    fields = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, channels, tail_at), (259, 3, 1, 1), (262, 3, 1, 2)]
    fields += [(273, 4, channels, tail_at + 2 * channels), (277, 3, 1, channels), (278, 3, 1, height)]
    fields += [(279, 4, channels, tail_at + 6 * channels), (284, 3, 1, 2)]
    table = b"".join(struct.pack("<HHII", *field) for field in fields)
    tail = struct.pack(f"<{channels}H", *[16] * channels)
    tail += struct.pack(f"<{2 * channels}I", *offsets, *map(len, planes))
    return b"II*\0" + struct.pack("<IH", 8, len(fields)) + table + bytes(4) + tail + b"".join(planes)


def packed_rows(samples, bits):
    """Rows of samples (H, W, C) as PNG wants them, at 1, 2, 4, 8 or 16 bits; less than 8 for one channel only."""
    if bits < 8:
        return packed_gray(samples[..., 0], bits)
    return [row.astype(">u2" if bits == 16 else "u1").tobytes() for row in samples]


def interlaced_png(samples, *, bits, color_type, chunks=()):
    """A PNG in Adam7 order."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = []
    for top, left, down, across in passes:
        part = samples[top::down, left::across]
        rows += packed_rows(part, bits) if part.size else []
    height, width, _ = samples.shape
    plain = png(width, height, bits=bits, color_type=color_type, rows=rows, chunks=chunks)
    header = plain[16:28] + b"\1"
    return plain[:8] + png_chunk(b"IHDR", header) + plain[33:]


def ycck_jpeg(inks):
    """A JPEG of inks (H, W, 4), uint8, the way Photoshop stores them: three turned into luma and chroma, inverted."""
    turned = np.asarray(pillow(inks[..., :3]).convert("YCbCr"))
    stored = np.concatenate((turned, 255 - inks[..., 3:]), axis=2)
    image = Image.frombytes("CMYK", inks.shape[1::-1], (255 - stored).tobytes())  # Pillow inverts it
    data = bytearray(encoded(image, "JPEG", quality=100))
    at = data.index(b"Adobe")
    data[at + 11] = 2  # the transform: none becomes YCCK
    return bytes(data)
