import hashlib
import os
import pickle
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file

from ddnsr_cli.errors import ConfigError, HubError, WeightsError
from ddnsr_cli.files import sha256_of
from ddnsr_cli.nets.lpips import LPIPS, TRUNKS
from ddnsr_cli.nets.vgg19 import Tap, VGG19Features
from ddnsr_cli.weights import feature_weights, files
from ddnsr_cli.weights import feature_weights as classifiers
from ddnsr_cli.weights.feature_weights import LPIPS_FOLDER, VGG19_ON_HUB, load_lpips, load_vgg19
from ddnsr_cli.weights.hub.download import HubAccess
from tests.helpers.fake_hub import Faults
from tests.helpers.lpips_trunks import trunk_shapes

# VGG19 as published, up to conv3_1: place in torchvision's list, channels in and out.
CONVOLUTIONS = [(0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256)]
CONV2_2 = [Tap(layer="conv1_1"), Tap(layer="conv2_2")]
UP_TO_CONV2_2 = {f"features.{place}.{kind}" for place in (0, 2, 5, 7) for kind in ("weight", "bias")}


@pytest.fixture(scope="module")
def vgg():
    generator = torch.Generator().manual_seed(0)
    state = {}
    for place, channels_in, channels_out in CONVOLUTIONS:
        state[f"features.{place}.weight"] = torch.randn(channels_out, channels_in, 3, 3, generator=generator) / 10
        state[f"features.{place}.bias"] = torch.randn(channels_out, generator=generator)
    return state


@pytest.fixture(scope="module")
def classifier(vgg):
    """With what follows the convolutions, under timm's names."""
    return vgg | {"pre_logits.fc1.weight": torch.ones(300, 1000), "head.fc.weight": torch.ones(1000, 10)}


@pytest.fixture
def on_hub(fake_hub, classifier, monkeypatch):
    """The classifier's file, as if it were the released one."""
    sha256 = fake_hub.add(VGG19_ON_HUB.repo, VGG19_ON_HUB.name, save(classifier))
    fake_hub.commit = VGG19_ON_HUB.revision
    monkeypatch.setattr(feature_weights, "VGG19_ON_HUB", replace(VGG19_ON_HUB, sha256=sha256))


@pytest.fixture
def access(fake_hub, tmp_path):
    return HubAccess(endpoint=fake_hub.endpoint, cache_dir=tmp_path / "cache", token=False, timeout_s=0.3)


def assert_is_up_to_conv2_2(state, vgg):
    assert state.keys() == UP_TO_CONV2_2
    for name, tensor in state.items():
        assert torch.equal(tensor, vgg[name])


def told(kind, call, *words):
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert type(caught.value) is kind
    assert message.isprintable()
    assert "RRDB" not in message
    for word in words:
        assert word in message


def test_vgg19_comes_from_the_hub_whole_and_then_from_the_cache(fake_hub, on_hub, access, vgg, classifier):
    progress = []
    found = load_vgg19(None, taps=CONV2_2, hub=access, on_progress=lambda *at: progress.append(at))
    assert_is_up_to_conv2_2(found.state, vgg)
    size = len(save(classifier))
    assert progress[-1] == (size, size)
    fake_hub.requests.clear()
    again = load_vgg19(None, taps=iter(CONV2_2), hub=access, offline=True)
    assert fake_hub.requests == []
    assert_is_up_to_conv2_2(again.state, vgg)
    assert again.sha256 == found.sha256 == hashlib.sha256(save(classifier)).hexdigest()
    assert "timm/vgg19.tv_in1k@128d4708565b" in found.source
    VGG19Features(found.state, CONV2_2, source=found.source)


def test_layers_that_are_not_looked_through_are_not_read(monkeypatch, tmp_path, classifier):
    """Most of a classifier is in its last layers: 411 of 575 MB."""
    save_file(classifier, tmp_path / "vgg19.safetensors")
    read = []

    @contextmanager
    def watched(*given, **how):
        with safe_open(*given, **how) as file:

            def get_tensor(name):
                read.append(name)
                return file.get_tensor(name)

            yield SimpleNamespace(keys=file.keys, metadata=file.metadata, get_tensor=get_tensor)

    monkeypatch.setattr(files, "safe_open", watched)
    load_vgg19(tmp_path / "vgg19.safetensors", taps=CONV2_2)
    assert set(read) == UP_TO_CONV2_2


def test_a_file_that_the_hub_declares_otherwise_is_reported_with_what_to_do(fake_hub, on_hub, access):
    fake_hub.add(VGG19_ON_HUB.repo, VGG19_ON_HUB.name, b"another")
    told(WeightsError, lambda: load_vgg19(None, taps=CONV2_2, hub=access), "not the released file", "Or give --vgg")


def test_without_the_hub_the_user_is_reported_which_file_to_give(fake_hub, on_hub, access):
    words = ["Or give --vgg FILE", "torchvision's VGG19 without batch norm", "timm/vgg19.tv_in1k"]
    once = "Run once without --offline and HF_HUB_OFFLINE. Or give --vgg"  # training has no -m
    told(HubError, lambda: load_vgg19(None, taps=CONV2_2, hub=access, offline=True), "not in the cache", once, *words)
    fake_hub.faults = Faults(head=(503, {}))
    told(HubError, lambda: load_vgg19(None, taps=CONV2_2, hub=access), "503", *words)


def test_vgg19_from_a_file_asks_nobody(fake_hub, access, tmp_path, vgg, classifier):
    file = tmp_path / "vgg19.safetensors"
    save_file(classifier, file)
    found = load_vgg19(file, taps=CONV2_2, hub=access)
    assert_is_up_to_conv2_2(found.state, vgg)
    assert found.source == "vgg19.safetensors"
    assert found.sha256 == sha256_of(file)
    assert fake_hub.requests == []


def test_half_precision_serves(tmp_path, vgg):
    file = tmp_path / "half.safetensors"
    save_file({name: tensor.half() for name, tensor in vgg.items()}, file)
    found = load_vgg19(file, taps=CONV2_2)
    features = VGG19Features(found.state, CONV2_2)(torch.rand(1, 3, 8, 8))
    assert features[CONV2_2[1]].dtype == torch.float32


@pytest.mark.parametrize("zipped", [True, False])
def test_torchvisions_pth_serves(tmp_path, vgg, zipped):
    file = tmp_path / "vgg19-dcbb9e9d.pth"
    torch.save(vgg | {"classifier.0.weight": torch.ones(10, 10)}, file, _use_new_zipfile_serialization=zipped)
    assert_is_up_to_conv2_2(load_vgg19(file, taps=CONV2_2).state, vgg)


def test_a_shallow_file_is_refused_when_it_is_read(tmp_path, vgg):
    file = tmp_path / "shallow.safetensors"
    save_file(vgg, file)
    deep = [Tap(layer="conv3_4")]
    told(WeightsError, lambda: load_vgg19(file, taps=deep), "shallow", "ends at conv3_1", "--perceptual conv3_4")


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


BAD_FILES = {
    "absent.pth": (None, "There is no weights file"),
    "empty.safetensors": (b"", "is empty"),
    "page.pth": (b"<html>Not found</html>", "web page"),
    "cut.safetensors": (save({"features.0.bias": torch.ones(64)})[:-5], "damaged"),
    "harmful.pth": (pickle.dumps(Harmful(), protocol=2), "refused"),
    "number.pth": (None, "holds no named tensors"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_of_no_use_is_reported_with_what_to_give(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    content, words = BAD_FILES[name]
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    elif name == "number.pth":
        torch.save(3, file)
    told(WeightsError, lambda: load_vgg19(file, taps=CONV2_2), name, words, "Give --vgg FILE", "torchvision's VGG19")
    assert not (tmp_path / "harm").exists()


@pytest.fixture(scope="module")
def lpips_file(tmp_path_factory):
    """SqueezeNet's, the smallest, with random weights."""
    with torch.device("meta"):
        trunk = torch.nn.ModuleDict({"features": squeezenet()})
    generator = torch.Generator().manual_seed(1)
    drawn = {name: torch.rand(value.shape, generator=generator) / 100 for name, value in trunk.state_dict().items()}
    channels = (64, 128, 256, 384, 384, 512, 512)
    heads = {f"lin{number}.weight": torch.rand(1, count, 1, 1) for number, count in enumerate(channels)}
    file = tmp_path_factory.mktemp("lpips") / "lpips_squeeze_v0.1.safetensors"
    save_file(drawn | heads | {"classifier.1.bias": torch.ones(1000)}, file)
    return file


def squeezenet():
    from ddnsr_cli.nets.lpips import squeezenet_features

    return squeezenet_features()


def test_lpips_comes_from_a_file_or_from_the_folder_that_the_environment_names(lpips_file, monkeypatch):
    monkeypatch.delenv(LPIPS_FOLDER, raising=False)
    given = load_lpips("squeeze", lpips_file)
    monkeypatch.setenv("DDNSR_LPIPS", str(lpips_file.parent))
    found = load_lpips("squeeze")
    assert found.state.keys() == given.state.keys()
    assert found.sha256 == given.sha256 == sha256_of(lpips_file)
    assert found.source == lpips_file.name
    assert given.state.keys() == load_file(lpips_file).keys() - {"classifier.1.bias"}
    image = torch.rand(1, 3, 32, 32)
    assert LPIPS("squeeze", found.state, source=found.source)(image, image).item() == 0


def test_lpips_without_a_file_tells_what_to_set(monkeypatch, tmp_path):
    monkeypatch.delenv(LPIPS_FOLDER, raising=False)
    words = ["DDNSR_LPIPS", "--lpips FILE", "lpips_alex_v0.1.safetensors", "AlexNet"]
    told(WeightsError, lambda: load_lpips("alex"), "alexnet-owt-7be5be79.pth", "not in the cache", *words)
    told(WeightsError, lambda: load_lpips("vgg"), "vgg16-397923af.pth", "not in the cache", "VGG16 (features.*)")
    monkeypatch.setattr(classifiers, "SERVER", "http://127.0.0.1:9")
    told(HubError, lambda: load_lpips("alex", offline=False), "could not be fetched", *words)
    monkeypatch.setenv(LPIPS_FOLDER, str(tmp_path))
    told(WeightsError, lambda: load_lpips("alex"), "There is no weights file", str(tmp_path), *words)


def random_trunk(trunk):
    generator = torch.Generator().manual_seed(2)
    return {name: torch.rand(shape, generator=generator) / 100 for name, shape in trunk_shapes(trunk).items()}


@pytest.mark.parametrize("trunk", ["alex", "squeeze", "vgg"])
def test_a_classifier_alone_is_given_the_published_heads(trunk, tmp_path):
    state = random_trunk(trunk)
    torch.save(state | {"classifier.1.bias": torch.ones(1000)}, tmp_path / "net.pth")
    found = load_lpips(trunk, tmp_path / "net.pth")
    assert found.source == "net.pth with the heads of lpips 0.1.4"
    assert found.state.keys() - state.keys() == {f"lin{number}.weight" for number in range(len(TRUNKS[trunk].taps))}
    assert all((found.state[name] >= 0).all() for name in found.state.keys() - state.keys())  # as they were trained
    image = torch.rand(1, 3, 32, 32)
    distance = LPIPS(trunk, found.state, source=found.source)
    assert distance(image, image).item() == 0
    assert distance(image, 1 - image).item() > 0


@pytest.mark.parametrize(("trunk", "sums"), [("alex", 105.2754), ("squeeze", 173.4387), ("vgg", 131.8555)])
def test_the_heads_are_those_of_lpips_0_1_4(trunk, sums, tmp_path):
    torch.save(random_trunk(trunk), tmp_path / "net.pth")
    state = load_lpips(trunk, tmp_path / "net.pth").state
    assert sum(state[name].sum().item() for name in state if name.startswith("lin")) == pytest.approx(sums, abs=1e-3)


def test_lpips_comes_from_pytorchs_cache(monkeypatch, tmp_path):
    monkeypatch.delenv(LPIPS_FOLDER, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    file.parent.mkdir(parents=True)
    torch.save(random_trunk("alex"), file)
    told(WeightsError, lambda: load_lpips("alex"), "not in the cache")  # the name alone is not enough
    alexnet = replace(classifiers.ALEXNET, sha256=sha256_of(file))
    monkeypatch.setitem(feature_weights._TORCHVISION, "alex", alexnet)
    found = load_lpips("alex")
    assert found.sha256 == sha256_of(file)
    assert found.source == "alexnet-owt-7be5be79.pth with the heads of lpips 0.1.4"


def test_an_unknown_trunk_is_refused():
    told(ConfigError, lambda: load_lpips("resnet"), "alex, squeeze, vgg", "resnet")
