"""Valid files of every kind that is read, small and full of metadata, made again: nothing binary is in the tree."""

import json
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from tests.cli.round_trip.test_round_trip_metadata import SOURCES, png_source
from tests.cli.round_trip.test_round_trip_others import SPRITE, qoi
from tests.helpers.foreign import as_layout, small_net
from tests.helpers.image_files import (
    cmyk_profile,
    deep_png,
    encoded,
    interlaced_png,
    noise,
    pillow,
    planar_tiff,
    smooth,
    vips_image,
    ycck_jpeg,
)


def images():
    """Name, with the extension that its format wants, and bytes."""
    raster, deep = smooth(14, 18), noise(14, 18, 3, np.uint16)
    image, sprite = pillow(raster), Image.fromarray(SPRITE)
    palette = image.quantize(8)
    frames = {"save_all": True, "append_images": [image.rotate(180)]}
    made = {f"full.{kind}": data for kind, data in SOURCES.items()}
    made |= {
        "deep.png": deep_png(deep, [(b"tEXt", b"Title\0deep")]),
        "laced.png": interlaced_png(raster, bits=8, color_type=2),
        "palette.png": encoded(palette, "PNG", transparency=0),
        "moving.png": encoded(image, "PNG", **frames),
        "exif.png": png_source(),
        "scans.jpg": encoded(image, "JPEG", progressive=True, restart_marker_blocks=1),
        "ycck.jpg": ycck_jpeg(np.dstack([raster, raster[..., 0] // 3])),
        "two.jpg": encoded(image, "MPO", **frames),
        "cmyk.jpg": encoded(image.convert("CMYK"), "JPEG", icc_profile=cmyk_profile()),
        "lzw.tif": vips_image(deep, "rgb16").tiffsave_buffer(compression="lzw", predictor="horizontal"),
        "tiles.tif": vips_image(raster, "srgb").tiffsave_buffer(tile=True, tile_width=16, tile_height=16, bigtiff=True),
        "planes.tif": planar_tiff(deep),
        "fax.tif": encoded(image.convert("1"), "TIFF", compression="group4"),
        "jpeg.tif": encoded(image, "TIFF", compression="jpeg"),
        "palette.tif": encoded(palette, "TIFF", compression="packbits"),
        "float.tif": vips_image((deep / 65535).astype(np.float32), "rgb").tiffsave_buffer(compression="deflate"),
        "ink.tif": vips_image(noise(14, 18, 4, np.uint16), "cmyk").tiffsave_buffer(compression="lzw"),
        "lossy.webp": encoded(sprite, "WEBP", quality=80),
        "moving.webp": encoded(image, "WEBP", lossless=True, **frames),
        "clear.avif": encoded(sprite, "AVIF", quality=60),
        "deep.avif": vips_image(deep, "rgb16").heifsave_buffer(compression="av1", bitdepth=10),
        "moving.gif": encoded(palette, "GIF", save_all=True, append_images=[palette.rotate(180)], comment=b"hello"),
        "true.bmp": encoded(image, "BMP"),
        "palette.bmp": encoded(palette, "BMP"),
        "true.ppm": encoded(image, "PPM"),
        "deep.ppm": b"P6 18 14 65535\n" + deep.astype(">u2").tobytes(),
        "plain.ppm": b"P3\n# plain\n18 14\n255\n" + " ".join(map(str, raster.ravel())).encode(),
        "bits.pbm": encoded(image.convert("1"), "PPM"),
        "runs.tga": encoded(sprite, "TGA", compression="tga_rle"),
        "small.ico": encoded(sprite, "ICO", sizes=[(16, 16), (8, 8)]),
        "bare.j2k": encoded(image, "JPEG2000", no_jp2=True),
        "true.qoi": qoi(raster),
    }
    return made


def weights():
    """Name and bytes of checkpoints: safetensors of ours and of others, pickles of two ages."""
    net = small_net(scale=4)
    ours = {key: value.clone() for key, value in net.state_dict().items()}
    sizes = json.dumps({"features": 4, "blocks": 1, "growth": 2, "scale": 4})
    zipped, bare = BytesIO(), BytesIO()
    torch.save({"params_ema": ours, "iter": 7}, zipped)
    torch.save(as_layout(ours, 2), bare, _use_new_zipfile_serialization=False)
    return {
        "ours.safetensors": save(ours, {"ddnsr_network": sizes}),
        "third.safetensors": save({key: value.half() for key, value in as_layout(ours, 3).items()}),
        "zipped.pth": zipped.getvalue(),
        "bare.pth": bare.getvalue(),
    }
