"""ncnn files out: ncnn itself makes of them what we make."""

import pytest
import torch
from torch import Tensor

from ddnsr_cli.weights.ncnn import param_text, weight_bytes

KINDS = [
    ("rrdb", {}),
    ("rrdb", {"scale": 2}),
    ("rrdb", {"scale": 1}),
    *(("compact", {"scale": s}) for s in (1, 2, 3, 4)),
    *(("compact", {"scale": s, "inner_scale": 4}) for s in (2, 3)),
]


def by_ncnn(text: str, content: bytes, folder, lr: Tensor) -> Tensor:
    """The image that ncnn makes, from blob `data` to blob `output`."""
    ncnn = pytest.importorskip("ncnn", reason="ncnn is not installed (pip install '.[test]')")
    (folder / "net.param").write_text(text)
    (folder / "net.bin").write_bytes(content)
    net = ncnn.Net()
    net.opt.use_vulkan_compute = False
    net.opt.num_threads = 1
    # Its arithmetic in half precision, and its shortcuts for 3x3 kernels, would hide a small mistake.
    for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, option, False)
    net.opt.use_winograd_convolution = False
    assert net.load_param(str(folder / "net.param")) == 0
    assert net.load_model(str(folder / "net.bin")) == 0
    with net.create_extractor() as extractor:
        extractor.input("data", ncnn.Mat(lr[0].contiguous().numpy()).clone())
        status, result = extractor.extract("output")
    assert status == 0
    return torch.from_numpy(result.numpy().copy())[None]


@pytest.mark.parametrize(("kind", "sizes"), KINDS)
def test_ncnn_makes_the_same_image(small_net, small_compact, tmp_path, kind, sizes):
    net = (small_net if kind == "rrdb" else small_compact)(**sizes)
    lr = torch.rand(1, 3, 20, 28, generator=torch.Generator().manual_seed(0))  # folded squares are whole
    content = b"".join(weight_bytes(net.state_dict(), half=False))
    theirs = by_ncnn(param_text(net.config), content, tmp_path, lr)
    ours = net(lr)
    assert theirs.shape == ours.shape
    assert ours.max() - ours.min() > 0.5
    assert (theirs - ours).abs().max() < 1e-4 * (ours.max() - ours.min())


def test_half_precision_is_half_the_file_and_ncnn_reads_it(small_compact, tmp_path):
    net = small_compact(features=7)  # odd numbers of values are padded
    full, half = (b"".join(weight_bytes(net.state_dict(), half=half)) for half in (False, True))
    assert len(half) < 0.6 * len(full)
    lr = torch.rand(1, 3, 20, 28, generator=torch.Generator().manual_seed(0))
    difference = by_ncnn(param_text(net.config), half, tmp_path, lr) - net(lr)
    assert 0 < difference.abs().max() < 0.01


def test_the_head_counts_what_follows(small_net):
    magic, counts, *lines = param_text(small_net().config).splitlines()
    blobs = {word for line in lines for word in line.split()[4:] if "=" not in word}
    assert magic == "7767517"
    assert counts == f"{len(lines)} {len(blobs)}"
    names = [line.split()[1] for line in lines]
    assert len(set(names)) == len(names)
    taken = [word for line in lines for word in line.split()[4 : 4 + int(line.split()[2])]]
    assert len(set(taken)) == len(taken)  # ncnn gives a blob away once
