"""Some tensors of a large safetensors file of the Hub, without the rest of it: by its header and range requests."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from ddnsr_cli.errors import HubError, WeightsError
from ddnsr_cli.files import atomic_path, safetensors_head
from ddnsr_cli.weights.hub.client import kinds_of_failure, settings, watched
from ddnsr_cli.weights.hub.download import (
    HubAccess,
    HubFile,
    Progress,
    check_name,
    digest_in,
    endpoint_of,
    no_hub_message,
    timeout_of,
    wrap_download_errors,
)

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 1 << 20  # that of VGG19 has some 3 kB
VALUE_BYTES = {"F32": 4, "F16": 2}

Shapes = Mapping[str, tuple[int, ...]]
"""The shape that each wanted tensor must have, by its name."""

BY_SETTINGS = HubAccess()
_NUMPY = {"F32": "<f4", "F16": "<f2"}


class LayoutError(ValueError):
    """A file is not laid out as expected. The message says what it has, to follow "with"."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """One tensor in a file. Offsets are in bytes of the data part; `stop` is not included."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def header_length(head: bytes, file_bytes: int) -> int:
    """What the first eight bytes tell. Raises LayoutError when a file of that size cannot hold such a header."""
    length = int.from_bytes(head[:LENGTH_BYTES], "little")
    if not 0 < length <= min(MAX_HEADER_BYTES, file_bytes - LENGTH_BYTES):
        raise LayoutError(f"a header of {length} bytes")
    return length


def read_places(header: bytes, shapes: Shapes, data_bytes: int) -> dict[str, Place]:
    """The places of the wanted tensors, in the order in which they lie. Others in the file are no matter.

    Raises LayoutError, saying what is wrong, when one is missing, of another shape or type, beyond the data, or shares
    bytes with another.
    """
    try:
        entries = json.loads(header)
    except (ValueError, RecursionError) as cause:
        raise LayoutError("a header that is no JSON") from cause
    if not isinstance(entries, dict):
        raise LayoutError("a header that is no table")
    found = {name: _place(name, entries.get(name), shape, data_bytes) for name, shape in shapes.items()}
    places = dict(sorted(found.items(), key=lambda item: item[1].start))
    stop = 0
    for name, place in places.items():
        if place.start < stop:
            raise LayoutError(f"{name} in bytes of another tensor")
        stop = place.stop
    return places


def _place(name: str, entry: object, shape: tuple[int, ...], data_bytes: int) -> Place:
    if not isinstance(entry, dict):
        raise LayoutError(f"no {name}")
    dtype, offsets = entry.get("dtype"), entry.get("data_offsets")
    if entry.get("shape") != list(shape):
        raise LayoutError(f"{name} not of the shape {shape}")
    if not isinstance(dtype, str) or dtype not in VALUE_BYTES:
        raise LayoutError(f"{name} of another type than {' or '.join(VALUE_BYTES)}")
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(type(offset) is int for offset in offsets)):
        raise LayoutError(f"{name} without offsets")
    start, stop = offsets
    if not (0 <= start <= stop <= data_bytes and stop - start == math.prod(shape) * VALUE_BYTES[dtype]):
        raise LayoutError(f"{name} at offsets that cannot be")
    return Place(dtype=dtype, shape=shape, start=start, stop=stop)


def runs_of(places: Mapping[str, Place]) -> list[tuple[int, int]]:
    """The stretches of data, each without a gap, in which the places lie: start and stop."""
    runs: list[tuple[int, int]] = []
    for place in places.values():
        if runs and runs[-1][1] == place.start:
            runs[-1] = (runs[-1][0], place.stop)
        else:
            runs.append((place.start, place.stop))
    return runs


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file of the Hub, found to be the pinned one and ready to be read in parts."""

    file: HubFile
    endpoint: str
    """The Hub's address, for messages."""

    url: str
    """Where its bytes are: mostly a store at another address, signed for some minutes."""

    headers: Mapping[str, str] = field(repr=False)  # they may hold a token
    size_bytes: int


def locate(file: HubFile, hub: HubAccess) -> RemoteFile:
    """Find a file by one request for its head. To be called under `client.watched`.

    Raises WeightsError when the Hub does not declare the file's pinned SHA-256: parts cannot be checked against it, so
    this is what ties them to the released file. Raises HubError when the Hub does not answer as one, and the client's
    own errors.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # exported lazily

    endpoint = endpoint_of(hub)
    url = hf_hub_url(file.repo, file.name, revision=file.revision, endpoint=hub.endpoint)
    head = get_hf_file_metadata(url, token=hub.token, timeout=timeout_of(hub), endpoint=hub.endpoint)
    if head.commit_hash is None or head.etag is None or head.size is None:
        raise HubError(no_hub_message(file, hub))
    if head.etag != file.sha256:
        declared = f"the SHA-256 {head.etag}" if digest_in(head.etag) else "no SHA-256"
        raise WeightsError(
            f"{file} is not the released file: {endpoint} declares {declared}, expected is {file.sha256}. Nothing of "
            f"it was fetched. Update ddnsr, or check HF_ENDPOINT."
        )
    at_home = urlsplit(head.location)[:2] == urlsplit(url)[:2]
    headers = build_hf_headers(token=hub.token if at_home else False)  # the token is for the Hub, not for its store
    headers["Accept-Encoding"] = "identity"  # of compressed content, ranges mean other bytes
    return RemoteFile(file=file, endpoint=endpoint, url=head.location, headers=headers, size_bytes=head.size)


def read_range(remote: RemoteFile, start: int, stop: int) -> Iterator[bytes]:
    """The bytes from `start` to `stop` (not included), in pieces as they come; all of them, or an error.

    A transfer that breaks off is taken up where it stopped, as long as each request brings something.
    Raises HubError when the answer is not the range that was asked for, and the client's own errors.
    """
    while start < stop:
        before = start
        try:
            for piece in _request(remote, start, stop):
                start += len(piece)
                yield piece
        except kinds_of_failure():
            if start == before:
                raise


def _request(remote: RemoteFile, start: int, stop: int) -> Iterator[bytes]:
    from huggingface_hub.utils import get_session, hf_raise_for_status  # type: ignore[attr-defined]  # as above

    wanted = {"Range": f"bytes={start}-{stop - 1}"}
    with get_session().stream("GET", remote.url, headers={**remote.headers, **wanted}) as response:
        hf_raise_for_status(response)
        _check_answer(remote, response.status_code, response.headers, f"{start}-{stop - 1}")
        left = stop - start
        for piece in response.iter_bytes():
            left -= len(piece)
            if left < 0:
                break
            yield piece
    if left:
        much = "few" if left > 0 else "many"
        raise HubError(f"{remote.file}: {remote.endpoint} sent too {much} bytes of the part asked for. Try again.")


def _check_answer(remote: RemoteFile, status: int, headers: Mapping[str, str], wanted: str) -> None:
    """Before any content is read: with some servers it is the whole file."""
    if status != 206:
        raise HubError(
            f"{remote.file}: {remote.endpoint} does not serve parts of a file (status {status}), and the whole of "
            f"{remote.size_bytes / 1e6:.0f} MB was not fetched. Check HF_ENDPOINT, or try another network."
        )
    given = headers.get("Content-Range", "")
    if given not in (f"bytes {wanted}/{remote.size_bytes}", f"bytes {wanted}/*"):
        shown = "".join(filter(str.isprintable, given))[:60] or "nothing"
        raise HubError(
            f"{remote.file}: {remote.endpoint} answers with another part of the file than asked for ({shown}, not "
            f"{wanted} of {remote.size_bytes}). Check HF_ENDPOINT, or try another network."
        )


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
    check_name(file)
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
    kept = {name: (place.dtype, place.shape, place.stop - place.start) for name, place in places.items()}
    return safetensors_head(kept, metadata)


def _fetch(
    file: HubFile, shapes: Shapes, hub: HubAccess, on_progress: Progress | None
) -> tuple[dict[str, Place], bytearray]:
    """The tensors' places in the whole file, and their data one after the other."""
    with wrap_download_errors(file, hub), watched(str(file), timeout_of(hub)) as guard, _believed(file, hub):
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
            f"{file} came with {cause}: it is not the released file. Something between here and {endpoint_of(hub)} "
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
