"""Some tensors of a large safetensors file of the Hub, without the rest of it.

A classifier's convolutions are the first seventh of its file; the fully connected layers, of no use here, are the rest.
The header, at the start of the file, tells where each tensor lies; range requests fetch just these bytes, and they are
kept in the cache as a safetensors file of their own.

What is checked: that the Hub declares the pinned SHA-256 for the whole file at the pinned commit; that the header has
the expected names and shapes, in float32 or float16, at possible offsets; that each answer is the range that was asked
for; that every value is finite. What cannot be: the digest is of the whole file, so a part that was altered on its way
into other finite values is not noticed. Against that stands the connection's own security alone.
The copy in the cache holds the digest of its data: damage there is found, and the part is fetched again.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ddnsr_cli.errors import HubError, WeightsError
from ddnsr_cli.files import atomic_path
from ddnsr_cli.hub.client import settings, watched
from ddnsr_cli.hub.fetch import HubAccess, HubFile, Progress, _check_name, _endpoint, _timeout_s, _told
from ddnsr_cli.hub.places import (
    LENGTH_BYTES,
    LayoutError,
    Place,
    Shapes,
    header_length,
    make_head,
    read_places,
    runs_of,
)
from ddnsr_cli.hub.ranges import RemoteFile, locate, read_range

BY_SETTINGS = HubAccess()
_NUMPY = {"F32": "<f4", "F16": "<f2"}


def fetch_tensors(
    file: HubFile,
    shapes: Shapes,
    *,
    offline: bool = False,
    on_progress: Progress | None = None,
    hub: HubAccess = BY_SETTINGS,
) -> Path:
    """Path of a safetensors file in the cache that holds the tensors named in `shapes` and nothing else.

    file: a safetensors file, pinned by a full commit and its SHA-256. Once fetched it costs no request; the same pin
    and shapes give the same bytes everywhere. It lies in `HF_ASSETS_CACHE` (by default `HF_HOME/assets`), or in
    `hub.cache_dir`. offline, on_progress: as in `fetch`; only the tensors' bytes are counted.
    Raises HubError when the Hub cannot be reached, refuses, or serves no parts, and when the cache cannot be written;
    WeightsError when the file is not the expected one; ValueError when it is not pinned.
    """
    if not (file.is_pinned and file.sha256 and shapes):
        raise ValueError(f"{file} needs a full commit, a SHA-256 and tensors that are wanted.")
    _check_name(file)
    path = _cache_path(file, shapes, hub)
    if _is_whole(path, file, shapes):
        return path
    if offline or settings().HF_HUB_OFFLINE:
        state = "is damaged in" if path.exists() else "is not in"
        raise HubError(
            f"{file}: what is needed of it {state} the cache {path.parent}, and offline the Hub is not asked. Run once "
            f"without --offline and HF_HUB_OFFLINE."
        )
    places, data = _fetch(file, shapes, hub, on_progress)
    _write(path, _head(places, file, data), data)
    return path


def _cache_path(file: HubFile, shapes: Shapes, hub: HubAccess) -> Path:
    key = hashlib.sha256(json.dumps(sorted(shapes.items())).encode()).hexdigest()[:12]
    name = Path(file.name)
    folder = (hub.cache_dir or Path(settings().HF_ASSETS_CACHE)) / "ddnsr" / file.repo.replace("/", "--")
    return folder / file.revision[:12] / f"{name.stem}-{key}.safetensors"


def _is_whole(path: Path, file: HubFile, shapes: Shapes) -> bool:
    try:
        content = path.read_bytes()
        split = LENGTH_BYTES + header_length(content, len(content))
        places = read_places(content[LENGTH_BYTES:split], shapes, len(content) - split)
    except (OSError, LayoutError):
        return False
    return content[:split] == _head(places, file, memoryview(content)[split:])


def _head(places: Mapping[str, Place], file: HubFile, data: bytearray | memoryview) -> bytes:
    assert file.sha256 is not None
    metadata = {
        "format": "pt",
        "source": f"{file.repo}@{file.revision}:{file.name}",
        "source_sha256": file.sha256,
        "data_sha256": hashlib.sha256(data).hexdigest(),
    }
    return make_head(places, metadata)


def _fetch(
    file: HubFile, shapes: Shapes, hub: HubAccess, on_progress: Progress | None
) -> tuple[dict[str, Place], bytearray]:
    """The tensors' places in the whole file, and their data one after the other."""
    with _told(file, hub), watched(str(file), _timeout_s(hub)) as guard, _believed(file, hub):
        remote = locate(file, hub)

        def read(start: int, stop: int) -> Iterator[bytes]:
            for piece in read_range(remote, start, stop):
                guard.on_data()
                yield piece

        places, data_start = _places(remote, shapes, read)
        total = sum(place.stop - place.start for place in places.values())
        report = on_progress or (lambda _done, _total: None)
        report(0, total)
        data = bytearray()
        for start, stop in runs_of(places):
            for piece in read(data_start + start, data_start + stop):
                data += piece
                report(len(data), total)
        _check_finite(places, data)
    return places, data


def _places(
    remote: RemoteFile, shapes: Shapes, read: Callable[[int, int], Iterator[bytes]]
) -> tuple[dict[str, Place], int]:
    """The tensors' places, and where in the file the data start."""
    length = header_length(b"".join(read(0, LENGTH_BYTES)), remote.size_bytes)
    data_start = LENGTH_BYTES + length
    header = b"".join(read(LENGTH_BYTES, data_start))
    return read_places(header, shapes, remote.size_bytes - data_start), data_start


def _check_finite(places: Mapping[str, Place], data: bytearray) -> None:
    start = 0
    for name, place in places.items():
        count = place.stop - place.start
        values = np.frombuffer(memoryview(data)[start : start + count], dtype=_NUMPY[place.dtype])
        if not np.isfinite(values).all():
            raise LayoutError(f"values that are not finite in {name}")
        start += count


@contextmanager
def _believed(file: HubFile, hub: HubAccess) -> Iterator[None]:
    """Tell what the file cannot be, when it is what the Hub declares it to be."""
    try:
        yield
    except LayoutError as cause:
        raise WeightsError(
            f"{file} came with {cause}: it is not the released file. Something between here and {_endpoint(hub)} "
            f"alters it: try another network."
        ) from cause


def _write(path: Path, head: bytes, data: bytearray) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary, temporary.open("wb") as out:
            out.write(head)
            out.write(data)
    except OSError as cause:
        raise HubError(
            f"The cache {path.parent} cannot be written: {cause.strerror or cause}. Make room, or set HF_HOME to "
            f"another folder."
        ) from cause
