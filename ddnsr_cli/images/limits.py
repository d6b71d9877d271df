"""What each format can hold, checked before any work is done for it."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from ddnsr_cli.errors import ImageWriteError
from ddnsr_cli.images.formats import WRITABLE, format_of, shown


@dataclass(frozen=True, kw_only=True)
class _Limits:
    """What a format can hold; None: no limit that matters."""

    side_px: int | None = None
    pixels: int | None = None
    alpha: bool = True
    deep: bool = False


_LIMITS = {
    "PNG": _Limits(deep=True),
    "TIFF": _Limits(deep=True),
    "BMP": _Limits(side_px=32_767, alpha=False),  # 4 GiB of pixels is as far as its sizes go
    "JPEG": _Limits(side_px=65_500, alpha=False),  # the format ends at 65,535, the library that writes it here
    "WebP": _Limits(side_px=16_383),
    "AVIF": _Limits(side_px=32_768, pixels=16_384**2),  # larger ones can be written, but usual readers refuse them
}


def holds_alpha(path: Path) -> bool:
    """Whether the format that `path` names has a place for transparency; True for a name that cannot be written."""
    file_format = format_of(path)
    return file_format is None or _LIMITS[file_format].alpha


def check_format(path: Path, *, width: int, height: int, has_alpha: bool, depth_bits: int) -> tuple[str, ...]:
    """Whether the format that `path` names can hold a picture; looks at the name only.

    Gives notes about what will be lost. Raises ImageWriteError, with a format that would do, where it cannot.
    """
    name, file_format = shown(path), format_of(path)
    if file_format is None:
        raise ImageWriteError(f"{name} has no extension that can be written. Use one of: {' '.join(WRITABLE)}.")
    limits = _LIMITS[file_format]
    if has_alpha and not limits.alpha:
        raise ImageWriteError(f"{name}: {file_format} holds no transparency, and the picture has some. Use .png.")
    too_long = limits.side_px is not None and max(width, height) > limits.side_px
    too_many = limits.pixels is not None and width * height > limits.pixels
    if too_long or too_many:
        most = f"{limits.side_px:,} pixels a side" + (f", {limits.pixels:,} in all" if limits.pixels else "")
        raise ImageWriteError(f"{name}: {width} x {height} is too large, {file_format} holds {most}. Use .png or .tif.")
    if depth_bits > 8 and not limits.deep:
        return (f"{file_format} is written with 8 bits a sample: 16 are rounded to 8; .png and .tif keep them",)
    return ()


def check_writable(path: Path, *, width: int, height: int, has_alpha: bool, depth_bits: int) -> tuple[str, ...]:
    """Whether a picture can be written to `path`, before any work is done; makes the folder if it is missing.

    Gives notes about what will be lost. Raises ImageWriteError where the format cannot hold the picture, the path
    is a folder, or nothing can be written there.
    """
    notes = check_format(path, width=width, height=height, has_alpha=has_alpha, depth_bits=depth_bits)
    name, folder = shown(path), shown(path.parent)
    try:
        if path.is_dir():
            raise ImageWriteError(f"{name} is a folder. Name a file, such as {name}/result.png.")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):  # the only sure test: permissions, read-only and full disks
            pass
    except OSError as error:
        reason = error.strerror or error
        raise ImageWriteError(f"Nothing can be written to {folder} ({reason}). Choose another with -o.") from error
    return notes
