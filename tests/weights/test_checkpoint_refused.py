import pickle
import random
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ddnsr_cli.errors import WeightsError
from ddnsr_cli.nets.degrader import Degrader, DegraderConfig
from ddnsr_cli.weights.checkpoint import load_sr_net, save_degrader, save_sr_net


@pytest.fixture
def net(small_net):
    return small_net()


def refused(path, *words):
    with pytest.raises(WeightsError) as caught:
        load_sr_net(path)
    message = str(caught.value)
    assert message.isprintable()  # one line
    assert path.name in message
    assert len(message) < 400
    for word in words:
        assert word in message


def test_values_that_are_not_finite_are_not_loaded(tmp_path, net):
    net.conv_hr.weight[0, 0, 0, 0] = float("nan")
    save_file(net.state_dict(), tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", "not finite", "conv_hr.weight")


def test_a_degrader_is_told_from_a_network_that_enlarges(tmp_path):
    degrader = Degrader(DegraderConfig(features=2, blocks=1))
    save_degrader(tmp_path / "degrader.safetensors", degrader, metadata={}, half=False)
    refused(tmp_path / "degrader.safetensors", "is a degrader", "ddnsr degrade")


def test_a_pickle_under_another_name_is_refused(tmp_path, net):
    for name in ("net.safetensors", "net.bin", "net"):
        torch.save(net.state_dict(), tmp_path / name)
        refused(tmp_path / name, "pickle", ".pth")


class Reduced:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Opened:
    def __init__(self, marker):
        self.marker = marker

    def __reduce_ex__(self, protocol):
        return (open, (self.marker, "w"))


def traps(marker):
    """Pickles that leave the file `marker` behind when their code runs."""
    import os
    import runpy

    touch = f"open({marker!r}, 'w').close()"
    return {
        "system": Reduced(os.system, f"touch {marker}"),
        "open": Opened(marker),
        "exec": Reduced(exec, touch),
        "eval": Reduced(eval, touch),
        "popen": Reduced(os.popen, f"touch {marker}"),
        "subprocess": Reduced(subprocess.call, ["touch", marker]),
        "runpy": Reduced(runpy.run_path, marker),
        "getattr": Reduced(getattr, Reduced(__import__, "os"), "system"),
        "torch.load": Reduced(torch.load, marker),
        "torch.hub": Reduced(torch.hub.load, marker, "x"),
        "inside": {"params": {"conv_first.weight": torch.zeros(1), "x": Reduced(os.system, f"touch {marker}")}},
        "instance": Path(marker),
    }


NAMES = sorted(traps("x"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["zip", "legacy", "bare 2", "bare 4"])
def test_code_in_a_pickle_does_not_run(tmp_path, name, form):
    path, marker = tmp_path / "net.pth", tmp_path / "marker"
    trap = traps(str(marker))[name]
    if form.startswith("bare"):
        path.write_bytes(pickle.dumps(trap, protocol=int(form[-1])))
    else:
        torch.save(trap, path, _use_new_zipfile_serialization=form == "zip")
    refused(path, "net.pth")
    assert not marker.exists()


def test_the_traps_are_real(tmp_path):
    marker = tmp_path / "marker"
    for name in ("system", "open", "exec", "eval", "subprocess", "inside"):
        torch.save(traps(str(marker))[name], tmp_path / "net.pth")
        opened = torch.load(tmp_path / "net.pth", weights_only=False)
        getattr(opened, "close", int)()
        assert marker.exists(), name
        marker.unlink()


def test_the_message_names_the_code_and_does_not_advise_to_run_it(tmp_path):
    torch.save(traps("x")["system"], tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"posix\.system|nt\.system") as caught:
        load_sr_net(tmp_path / "net.pth")
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (bytes(600), "zeros"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"\n\n <html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "neither"),
        (b"hello", "neither"),
        (struct.pack("<Q", 1 << 60) + b"{" + bytes(50), "neither"),
    ],
)
@pytest.mark.parametrize("name", ["net.safetensors", "net.pth"])
def test_files_of_another_kind_are_refused_with_what_they_are(tmp_path, content, word, name):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, word)


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("net.onnx", b"\x08\x08\x12\x07pytorch", "an ONNX graph"),
        ("net.xml", b'<?xml version="1.0"?>\n<net name="net" version="11">', "an OpenVINO graph"),
        ("net.PT2", b"PK\x03\x04" + bytes(100), "exported by PyTorch"),
        ("net.h5", b"\x89HDF\r\n\x1a\n" + bytes(100), "Keras"),
    ],
)
def test_files_that_other_programs_run_are_named(tmp_path, name, content, word):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, word, "was made from")


def test_missing_files_and_folders_are_refused(tmp_path):
    refused(tmp_path / "no.safetensors", "There is no weights file")
    refused(tmp_path, "cannot be read")


def test_a_file_too_large_is_refused_unread(tmp_path):
    path = tmp_path / "net.safetensors"
    with path.open("wb") as file:
        file.truncate(3 << 30)  # sparse: takes no room
    refused(path, "3.2 GB")


def test_a_torchscript_archive_is_refused(tmp_path):
    import zipfile

    torch.save({}, tmp_path / "net.pt")
    with zipfile.ZipFile(tmp_path / "net.pt", "a") as archive:
        archive.writestr("net/constants.pkl", b"\x80\x02).")
    refused(tmp_path / "net.pt", "TorchScript")


@pytest.mark.parametrize("form", ["safetensors", "zip", "legacy"])
def test_damaged_files_are_refused_or_hold_a_whole_network(tmp_path, small_net, form):
    net = small_net(features=3, blocks=1, growth=1)
    path = tmp_path / ("net.safetensors" if form == "safetensors" else "net.pth")
    if form == "safetensors":
        save_sr_net(path, net, metadata={"a": "b"}, half=False)
    else:
        torch.save(net.state_dict(), path, _use_new_zipfile_serialization=form == "zip")
    whole = path.read_bytes()
    for length in {0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1}:
        path.write_bytes(whole[:length])
        refused(path)
    chance, loads = random.Random(5), 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(chance.choice((1, 3, 20))):
            damaged[chance.randrange(len(whole) if chance.random() < 0.3 else 1500)] = chance.randrange(256)
        path.write_bytes(damaged)
        with suppress(WeightsError):  # anything else is a failure of the reader
            load_sr_net(path)
            loads += 1
    assert loads < 150
