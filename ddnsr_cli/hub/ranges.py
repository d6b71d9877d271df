"""Parts of a file of the Hub, read by range requests, where the whole is too large for what is needed of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ddnsr_cli.errors import HubError, WeightsError
from ddnsr_cli.hub.failures import kinds_of_failure
from ddnsr_cli.hub.fetch import HubAccess, HubFile, _digest, _endpoint, _no_hub, _timeout_s


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

    endpoint = _endpoint(hub)
    url = hf_hub_url(file.repo, file.name, revision=file.revision, endpoint=hub.endpoint)
    head = get_hf_file_metadata(url, token=hub.token, timeout=_timeout_s(hub), endpoint=hub.endpoint)
    if head.commit_hash is None or head.etag is None or head.size is None:
        raise HubError(_no_hub(file, hub))
    if head.etag != file.sha256:
        declared = f"the SHA-256 {head.etag}" if _digest(head.etag) else "no SHA-256"
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
    told = headers.get("Content-Range", "")
    if told not in (f"bytes {wanted}/{remote.size_bytes}", f"bytes {wanted}/*"):
        shown = "".join(filter(str.isprintable, told))[:60] or "nothing"
        raise HubError(
            f"{remote.file}: {remote.endpoint} answers with another part of the file than asked for ({shown}, not "
            f"{wanted} of {remote.size_bytes}). Check HF_ENDPOINT, or try another network."
        )
