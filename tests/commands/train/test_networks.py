"""Which feature extractors a joint run has, how their features are scaled, and that no others take over."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from ddnsr_cli.commands.train.networks import (
    AUTHORS_GAIN,
    FeatureExtractors,
    FeatureFiles,
    feature_nets_of,
    load_feature_extractors,
    measured_scales,
    refuse_other_extractors,
)
from ddnsr_cli.errors import HubError, TrainingError, WeightsError
from ddnsr_cli.nets.lpips import TRUNKS, squeezenet_features
from ddnsr_cli.nets.vgg19 import Tap
from ddnsr_cli.training.options import FeatureLayers, JointOptions, LossWeights, ablated, without_discriminator
from ddnsr_cli.training.paired_options import PairedOptions, with_equation_2
from ddnsr_cli.training.reconstruction import NO_FEATURE_NETS, LpipsDifference, VggDifference
from ddnsr_cli.training.reconstruction_options import Discriminator, PerceptualLayers, ReconstructionWeights
from tests.helpers.random_vgg import random_vgg19

CPU = torch.device("cpu")
CONV34 = JointOptions(layers=FeatureLayers(perceptual="conv3_4"))
ONLY_PIXELS = JointOptions(losses=LossWeights(content=0, cycle=0, perceptual=0))
WITH_LPIPS = JointOptions(layers=FeatureLayers(perceptual="lpips-squeeze"))
NOTHING = FeatureFiles(vgg=None, lpips=None, offline=True)


def silent(_done, _total):
    pass


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg") / "vgg19.safetensors"
    save_file(random_vgg19("conv3_4"), path)
    return path


@pytest.fixture(scope="module")
def squeeze(tmp_path_factory):
    """LPIPS on SqueezeNet with random weights."""
    torch.manual_seed(0)
    state = {f"features.{name}": tensor for name, tensor in squeezenet_features().state_dict().items()}
    state |= {f"lin{n}.weight": torch.rand(1, c, 1, 1) for n, c in enumerate(TRUNKS["squeeze"].channels)}
    path = tmp_path_factory.mktemp("lpips") / "squeeze.safetensors"
    save_file(state, path)
    return path


def crops(gain=1.0):
    generator = torch.Generator().manual_seed(0)
    return [gain * torch.rand(1, 3, 64, 64, generator=generator) for _ in range(3)]


def test_only_what_the_losses_need_is_read(vgg, squeeze):
    assert load_feature_extractors(ONLY_PIXELS, NOTHING, silent) == FeatureExtractors(vgg=None, lpips=None)
    files = FeatureFiles(vgg=vgg, lpips=squeeze)
    assert load_feature_extractors(CONV34, files, silent).lpips is None
    both = load_feature_extractors(WITH_LPIPS, files, silent)
    assert set(both.record) == {"vgg", "perceptual_lpips"}
    no_lr = replace(WITH_LPIPS, losses=LossWeights(content=0, cycle=0))
    assert load_feature_extractors(no_lr, replace(files, vgg=None, offline=True), silent).vgg is None


@pytest.mark.parametrize(
    ("options", "deepest"),
    [(CONV34, 16), (ablated(without_discriminator(CONV34), "A"), 7), (without_discriminator(CONV34), 16)],
)
def test_vgg_is_read_as_deep_as_the_losses_look(vgg, options, deepest):
    extractors = load_feature_extractors(options, FeatureFiles(vgg=vgg, lpips=None), silent)
    assert max(int(name.split(".")[1]) for name in extractors.vgg.state) == deepest


def test_weights_that_are_not_there_are_reported_never_made_up(vgg, tmp_path, monkeypatch):
    monkeypatch.delenv("DDNSR_LPIPS", raising=False)
    with pytest.raises((HubError, WeightsError), match="--vgg FILE"):
        load_feature_extractors(CONV34, NOTHING, silent)
    with pytest.raises(WeightsError, match="--perceptual-weights FILE"):
        load_feature_extractors(WITH_LPIPS, FeatureFiles(vgg=vgg, lpips=None), silent)
    with pytest.raises(WeightsError, match="ends at conv3_4"):
        load_feature_extractors(JointOptions(), FeatureFiles(vgg=vgg, lpips=None), silent)


def test_the_record_names_the_file_and_its_digest(vgg):
    record = load_feature_extractors(CONV34, FeatureFiles(vgg=vgg, lpips=None), silent).record
    assert record["vgg"]["source"] == "vgg19.safetensors"
    assert len(record["vgg"]["sha256"]) == 64


def test_losses_do_not_depend_on_the_scale_of_the_weights(vgg, tmp_path):
    """The same network with features a hundred times larger, as the original Caffe file has them."""
    state = random_vgg19("conv3_4")
    state["features.0.weight"] *= 100  # biases are 0: all features grow alike
    save_file(state, tmp_path / "caffe.safetensors")
    made, truth = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(1)).unbind()
    told = []
    for file in (vgg, tmp_path / "caffe.safetensors"):
        extractors = load_feature_extractors(CONV34, FeatureFiles(vgg=file, lpips=None), silent)
        scales = measured_scales(CONV34, extractors, crops())
        feature_nets = feature_nets_of(CONV34, extractors, scales, CPU)
        features = feature_nets.lr(made)[Tap(layer="conv3_4")]
        told.append((scales, feature_nets.hr(made, truth), features))
    for name, scale in told[0][0].items():
        assert told[1][0][name] == pytest.approx(100 * scale, rel=1e-4)
    torch.testing.assert_close(told[0][1], told[1][1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(told[0][2], told[1][2], rtol=1e-3, atol=1e-4)


def test_features_on_the_measured_images_have_the_size_that_was_meant(vgg):
    extractors = load_feature_extractors(CONV34, FeatureFiles(vgg=vgg, lpips=None), silent)
    scales = measured_scales(CONV34, extractors, crops())
    feature_nets = feature_nets_of(CONV34, extractors, scales, CPU)
    small = torch.cat([torch.nn.functional.avg_pool2d(crop, 4) for crop in crops()])
    for layer, gain in AUTHORS_GAIN.items():
        assert feature_nets.lr(small)[Tap(layer=layer)].abs().mean().item() == pytest.approx(gain, rel=1e-4)
    (features,) = feature_nets.hr.vgg(torch.cat(crops())).values()
    assert features.abs().mean().item() == pytest.approx(1, rel=1e-4)


def test_the_perceptual_loss_is_the_one_asked_for(vgg, squeeze):
    files = FeatureFiles(vgg=vgg, lpips=squeeze)
    for options, kind in ((CONV34, VggDifference), (WITH_LPIPS, LpipsDifference)):
        extractors = load_feature_extractors(options, files, silent)
        scales = measured_scales(options, extractors, crops())
        assert ("perceptual.conv3_4" in scales) == (kind is VggDifference)  # LPIPS has its own scale
        assert isinstance(feature_nets_of(options, extractors, scales, CPU).hr, kind)
    authors = replace(CONV34, layers=replace(CONV34.layers, as_authors=True))
    extractors = load_feature_extractors(authors, files, silent)
    plain, squared = (
        feature_nets_of(options, extractors, measured_scales(options, extractors, crops()), CPU).hr
        for options in (CONV34, authors)
    )
    assert (plain.squared, squared.squared) == (False, True)
    flat = torch.full((1, 3, 32, 32), 0.5)  # fed as it is, not standardized
    assert not torch.allclose(*(next(iter(one.vgg(flat).values())) for one in (plain, squared)))


def test_layers_of_the_perceptual_loss_are_each_scaled_and_weighted(vgg):
    layers = PerceptualLayers(perceptual="conv2_2=0.4,conv3_4=2")
    options = with_equation_2(PairedOptions())
    options = replace(options, layers=layers)
    extractors = load_feature_extractors(options, FeatureFiles(vgg=vgg, lpips=None), silent)
    scales = measured_scales(options, extractors, crops())
    assert scales.keys() == {"perceptual.conv2_2", "perceptual.conv3_4"}
    difference = feature_nets_of(options, extractors, scales, CPU).hr
    assert difference.vgg.scales == {
        Tap(layer=layer): scales[f"perceptual.{layer}"] for layer in ("conv2_2", "conv3_4")
    }
    assert difference.weights == {Tap(layer="conv2_2"): 0.4, Tap(layer="conv3_4"): 2.0}
    assert difference.vgg.autocast  # bfloat16 is enough here, and a third of the time of a step
    joint = feature_nets_of(CONV34, extractors, measured_scales(CONV34, extractors, crops()), CPU)
    assert joint.hr.vgg.autocast
    assert not joint.lr.autocast  # differences of LR images are too small for it


def test_pretraining_looks_through_no_network():
    extractors = load_feature_extractors(PairedOptions(), FeatureFiles(vgg=None, lpips=None, offline=True), silent)
    assert (extractors.vgg, extractors.lpips, extractors.record) == (None, None, {})
    assert feature_nets_of(PairedOptions(), extractors, {}, CPU) == NO_FEATURE_NETS


def test_a_projected_discriminator_looks_through_vgg_at_features_of_mean_1(vgg):
    weights = ReconstructionWeights(perceptual=0, hr_adversarial=0.1, pixel=1)
    options = PairedOptions(losses=weights, discriminator=Discriminator.PROJECTED)
    extractors = load_feature_extractors(options, FeatureFiles(vgg=vgg, lpips=None), silent)
    scales = measured_scales(options, extractors, crops())
    assert scales.keys() == {f"discriminator.{layer}" for layer in ("conv1_2", "conv2_2", "conv3_4")}
    feature_nets = feature_nets_of(options, extractors, scales, CPU)
    assert feature_nets.hr is None
    for features in feature_nets.disc(torch.cat(crops())).values():
        assert features.abs().mean().item() == pytest.approx(1, rel=1e-4)


def test_without_feature_losses_nobody_looks():
    feature_nets = feature_nets_of(ONLY_PIXELS, FeatureExtractors(vgg=None, lpips=None), {}, CPU)
    assert feature_nets.lr is None
    assert feature_nets.hr is None


def test_the_same_judges_go_on_and_others_do_not(vgg, squeeze, tmp_path):
    now = load_feature_extractors(WITH_LPIPS, FeatureFiles(vgg=vgg, lpips=squeeze), silent)
    refuse_other_extractors(tmp_path / "run", now.record, now)
    renamed = {name: {**one, "source": "moved.pth"} for name, one in now.record.items()}
    refuse_other_extractors(tmp_path / "run", renamed, now)  # another name, the same bytes
    for name, option in (("vgg", "--vgg"), ("perceptual_lpips", "--perceptual-weights")):
        other = {**now.record, name: {"source": "old.pth", "sha256": "0" * 64}}
        with pytest.raises(TrainingError, match=f"run was begun with old.pth .*{option}"):
            refuse_other_extractors(tmp_path / "run", other, now)
