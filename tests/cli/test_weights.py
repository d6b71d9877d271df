"""`ddnsr weights` by its effects."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from ddnsr_cli.commands.upscale import worker
from ddnsr_cli.nets.degrader import Degrader, DegraderConfig
from ddnsr_cli.weights import registry
from ddnsr_cli.weights.arrays import TERMS_KEY, stated_terms
from ddnsr_cli.weights.checkpoint import load_degrader, load_sr_net, save_degrader, save_sr_net
from ddnsr_cli.weights.registry import read_registry
from tests.helpers.foreign import small_net


def test_list_names_every_model_with_its_license(ddnsr):
    heading, *lines, legend = ddnsr("weights", "list").out.splitlines()
    assert heading.split() == ["name", "scale", "size", "place", "license", "title"]
    assert legend == "* is used where -m names nothing, + in its place on a graphics card"
    for line, entry in zip(lines, read_registry().entries, strict=True):
        assert entry.name in line
        assert entry.license in line
        assert line.startswith("*") == entry.default
        assert line.startswith("+") == entry.default_on_gpu
        assert line[2:].split()[1] == (f"x{entry.scale}" if entry.network == "rrdb" else "1/4")
    assert sum(line.startswith("*") for line in lines) == 2  # one that enlarges, one degrader
    assert {line.index(entry.license) for line, entry in zip(lines, read_registry().entries, strict=True)} == {
        heading.index("license")
    }


def test_list_as_json_is_complete(ddnsr):
    told = [json.loads(line) for line in ddnsr("weights", "list", "--json").out.splitlines()]
    assert {row["name"]: row["sha256"] for row in told} == {e.name: e.sha256 for e in read_registry().entries}


def test_info_tells_place_and_hash(ddnsr):
    told = ddnsr("weights", "info", "bsrgan").out
    entry = read_registry().get("bsrgan")
    for fact in (entry.repo, entry.revision, entry.sha256, entry.license):
        assert fact in told


def test_info_is_words_and_figures(ddnsr):
    told = ddnsr("weights", "info", "ddnsr-lite").out.splitlines()
    for line in (
        "own: yes",
        "default: yes",
        "research_only: no",
        "scores: psnr_db 24.37, ssim 0.702, lpips_alex 0.343",
    ):
        assert line in told
    assert not [line for line in told if set("{}") & set(line)]


@pytest.mark.parametrize("name", ["RealESRGAN_x4plus", "RealESRGAN_x4plus.pth", "realesrgan-x4plus.safetensors"])
def test_info_knows_the_names_of_the_field(ddnsr, name):
    done = ddnsr("weights", "info", name)
    assert (done.code, done.out.splitlines()[0]) == (0, "name: realesrgan-x4plus")


def test_the_models_of_the_papers_table_are_listed_as_the_work_of_others():
    others = {entry.name for entry in read_registry().entries if not entry.own}
    assert {"realesrgan-x4plus", "esrgan", "rrdb-psnr", "realsr-dped", "bsrgan"} <= others


def test_list_tells_what_is_for_research_only_and_whether_it_is_here(ddnsr, monkeypatch, tmp_path):
    ours = read_registry()
    monkeypatch.setattr(registry, "read_registry", lambda: replace(ours, root=tmp_path))
    (tmp_path / "research").mkdir()
    (tmp_path / ours.get("degrader-track2").beside).touch()
    rows = {line[2:].split()[0]: line for line in ddnsr("weights", "list").out.splitlines()[:-1]}
    for name, place in (
        ("ddnsr-track2", " MB  not here  research use only "),
        ("degrader-track2", " MB  here      res"),
    ):
        assert place in rows[name]
    assert " MB  bundled   MIT " in rows["ddnsr-lite"]
    told = [json.loads(line) for line in ddnsr("weights", "list", "--json").out.splitlines()]
    assert {row["name"]: row["here"] for row in told if "here" in row} == {
        "ddnsr-track2": False,
        "degrader-track2": True,
    }


@pytest.mark.parametrize("command", [["weights", "pull"], ["upscale", "image.png", "-m"]])
def test_weights_for_research_are_refused_where_they_do_not_come_along(ddnsr, monkeypatch, tmp_path, command):
    ours = replace(read_registry(), root=tmp_path)
    for place in (registry, worker):
        monkeypatch.setattr(place, "read_registry", lambda: ours)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (16, 16)).save("image.png")
    done = ddnsr(*command, "ddnsr-track2")
    assert done.code == 5
    assert done.err.count("\n") == 1
    for words in ("research use only", "ddnsr-track2.safetensors", "the project's repository, folder research/"):
        assert words in done.err


@pytest.mark.parametrize("command", ["info", "pull"])
def test_an_unknown_name_is_reported_with_what_is_close(ddnsr, command):
    done = ddnsr("weights", command, "bsrgun")
    assert done.code == 5
    assert done.err.count("\n") == 1
    assert "bsrgan" in done.err


def test_pull_prints_where_the_file_lies(ddnsr, quick_model):
    done = ddnsr("weights", "pull", quick_model)
    assert (done.code, done.out.strip()) == (0, str(quick_model))


@pytest.mark.parametrize("layout", [1, 2, 3])
def test_convert_gives_our_names_and_the_same_result(ddnsr, as_layout, small_net, tmp_path, layout):
    net = small_net()
    source, target = tmp_path / "foreign.pth", tmp_path / "ours.safetensors"
    torch.save(as_layout(net.state_dict(), layout), source)
    assert ddnsr("weights", "convert", source, "-o", target).code == 0
    converted, _ = load_sr_net(target)
    lr = torch.rand(1, 3, 9, 7)
    torch.testing.assert_close(converted(lr), net(lr), rtol=0, atol=0)


def test_convert_loses_nothing_that_is_there(ddnsr, quick_model, tmp_path):
    (tmp_path / "there.safetensors").write_text("precious")
    for target, word in ((tmp_path / "there.safetensors", "exists"), (tmp_path / "o.pt", ".safetensors")):
        done = ddnsr("weights", "convert", quick_model, "-o", target)
        assert done.code == 2
        assert word in done.err
    assert (tmp_path / "there.safetensors").read_text() == "precious"


@pytest.mark.parametrize("suffix", [".param", ".onnx"])
def test_convert_writes_for_other_programs(ddnsr, quick_model, tmp_path, suffix):
    target = tmp_path / f"x4{suffix}"
    done = ddnsr("weights", "convert", quick_model, "-o", target)
    files = [target, target.with_suffix(".bin")] if suffix == ".param" else [target]
    assert (done.code, done.out.split()) == (0, [str(file) for file in files])
    assert all(file.stat().st_size for file in files)
    again = ddnsr("weights", "convert", quick_model, "-o", target)
    assert (again.code, again.err.count("\n")) == (2, 1)
    files[0].unlink()
    assert ddnsr("weights", "convert", quick_model, "-o", target).code == (2 if suffix == ".param" else 0)


@pytest.mark.parametrize("suffix", ["param", "pth"])
def test_what_was_converted_enlarges_the_same(ddnsr, image_file, quick_model, tmp_path, suffix):
    converted = tmp_path / "new" / "models" / f"x4.{suffix}"
    assert ddnsr("weights", "convert", quick_model, "-o", converted).code == 0
    source = image_file()
    for model, name in ((quick_model, "a.png"), (converted, "b.png")):
        assert ddnsr("upscale", source, "-m", model, "-o", tmp_path / name).code == 0
    with Image.open(tmp_path / "a.png") as ours, Image.open(tmp_path / "b.png") as theirs:
        assert ours.tobytes() == theirs.tobytes()


def test_what_a_kind_of_file_cannot_hold_is_reported(ddnsr, quick_model, tmp_path):
    degrader = tmp_path / "d.safetensors"
    save_degrader(degrader, Degrader(DegraderConfig(features=4, blocks=1)), metadata={}, half=False)
    for words, word in (
        ((degrader, "-o", tmp_path / "d.param"), "d.safetensors is a degrader"),
        ((quick_model, "-o", tmp_path / "m.onnx", "--half"), "single precision"),
        ((degrader, "-o", tmp_path / "d.pth"), "d.safetensors is a degrader"),
        ((quick_model, "-o", tmp_path / "m.bin"), "must end in .safetensors, .pth, .param"),
    ):
        done = ddnsr("weights", "convert", *words)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert word in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["d.safetensors"]


@pytest.mark.parametrize("name", ["models/", "x.pth/"])
def test_a_path_that_ends_in_a_slash_is_no_file(ddnsr, quick_model, tmp_path, name):
    done = ddnsr("weights", "convert", quick_model, "-o", f"{tmp_path}/{name}")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"{name} ends in /, as a folder does" in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_reported(ddnsr, quick_model, tmp_path):
    (tmp_path / "models").write_text("a file")
    done = ddnsr("weights", "convert", quick_model, "-o", tmp_path / "models" / "x4.safetensors")
    assert (done.code, done.err.count("\n")) == (5, 1)
    assert f"folder {tmp_path / 'models'} cannot be made" in done.err


def test_half_precision_halves_the_file(ddnsr, quick_model, tmp_path):
    assert ddnsr("weights", "convert", quick_model, "-o", tmp_path / "half.safetensors", "--half").code == 0
    net, _ = load_sr_net(tmp_path / "half.safetensors")
    full, _ = load_sr_net(quick_model)
    lr = torch.rand(1, 3, 9, 7)
    torch.testing.assert_close(net(lr), full(lr), rtol=0, atol=2e-3)
    assert (tmp_path / "half.safetensors").stat().st_size < quick_model.stat().st_size


def test_a_degrader_is_converted_too(ddnsr, tmp_path):
    torch.manual_seed(0)
    degrader, source, target = (
        Degrader(DegraderConfig(features=4, blocks=1)),
        tmp_path / "d.safetensors",
        tmp_path / "h.safetensors",
    )
    save_degrader(source, degrader, metadata={"options": "{}"}, half=False)
    assert ddnsr("weights", "convert", source, "-o", target, "--half").code == 0
    converted, metadata = load_degrader(target)
    assert metadata["options"] == "{}"
    hr, lr = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(converted.float()(hr, lr), degrader(hr, lr), rtol=0, atol=5e-3)
    assert target.stat().st_size < source.stat().st_size


def test_a_mix_lies_between_two_networks(ddnsr, small_net, tmp_path):
    ends, share = [small_net(), small_net()], 0.25
    torch.manual_seed(1)
    for parameter in ends[1].parameters():
        parameter.data.add_(torch.randn_like(parameter))
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for file, net in zip(files, ends, strict=True):
        save_sr_net(file, net, metadata={}, half=False)
    target = tmp_path / "mix.safetensors"
    assert ddnsr("weights", "mix", *files, "--share", share, "-o", target).code == 0
    mixed, metadata = load_sr_net(target)
    for key, value in mixed.state_dict().items():
        first, second = (net.state_dict()[key] for net in ends)
        torch.testing.assert_close(value, (1 - share) * first + share * second)
    assert [part["share"] for part in json.loads(metadata["mix"])] == [0.75, 0.25]


@pytest.mark.parametrize("options", ["[" * 100_000, '{"stream": {"seed": "none"}}', '{"stream": {"seed": null}}'])
def test_what_a_file_says_of_its_training_may_be_anything(ddnsr, small_net, tmp_path, options):
    for name, blocks in (("small", 1), ("large", 2)):
        metadata = {"training": '{"start_from": "small"}', "options": options}
        save_sr_net(tmp_path / f"{name}.safetensors", small_net(blocks=blocks), metadata=metadata, half=False)
    files = (tmp_path / "small.safetensors", tmp_path / "large.safetensors")
    done = ddnsr("weights", "mix", *files, "-o", tmp_path / "mix.safetensors")
    assert (done.code, done.err.count("\n")) == (5, 1)
    assert "Mix networks of the same sizes" in done.err


def test_a_mix_that_makes_no_sense_is_refused(ddnsr, quick_model, small_net, tmp_path):
    save_sr_net(tmp_path / "wide.safetensors", small_net(features=12), metadata={}, half=False)
    for second, share, code, word in (
        (quick_model, 1.5, 2, "between 0"),
        (tmp_path / "wide.safetensors", 0.5, 5, "wide.safetensors features 12, blocks 2, growth 4, scale 4. Mix"),
    ):
        done = ddnsr("weights", "mix", quick_model, second, "--share", share, "-o", tmp_path / "out.safetensors")
        assert done.code == code
        assert word in done.err
        assert done.err.count("\n") == 1
    assert not (tmp_path / "out.safetensors").exists()


def test_terms_are_told_and_kept_whatever_is_made_of_weights(ddnsr, tmp_path):
    terms = "one is for research only: its images are."
    for name, metadata in (("one", {TERMS_KEY: terms}), ("two", {})):
        save_sr_net(tmp_path / f"{name}.safetensors", small_net(), metadata=metadata, half=False)
    one, two, mixed = (tmp_path / f"{name}.safetensors" for name in ("one", "two", "mixed"))
    assert f"note: {terms}" in ddnsr("weights", "mix", one, two, "-o", mixed).err
    again = tmp_path / "again.safetensors"
    assert f"note: {terms}" in ddnsr("weights", "convert", mixed, "-o", again).err
    assert f"note: {terms}" in ddnsr("weights", "convert", again, "-o", tmp_path / "plain.pth").err
    assert stated_terms(again) == terms
    assert ddnsr("weights", "convert", two, "-o", tmp_path / "free.safetensors").err == ""
    assert ddnsr("weights", "convert", again, "-o", tmp_path / "quiet.pth", "--quiet").err == ""


def test_of_weights_for_research_only_it_is_told_when_they_are_fetched_or_converted(ddnsr, tmp_path):
    note = "note: degrader-track2 is for research only"
    assert ddnsr("weights", "pull", "degrader-track2").err.startswith(note)
    copy = tmp_path / "copy.safetensors"
    assert ddnsr("weights", "convert", "degrader-track2", "-o", copy).err.startswith(note)
    assert stated_terms(copy).startswith("degrader-track2 is for research only")


def test_info_of_a_file_says_what_it_knows(ddnsr, quick_model):
    done = ddnsr("weights", "info", quick_model)
    assert (done.code, done.err.count("\n")) == (5, 1)
    assert f"{quick_model} is there, but info tells of the registry's models only" in done.err


@pytest.mark.parametrize("command", ["convert", "mix"])
def test_a_name_that_is_too_long_is_one_line(ddnsr, quick_model, tmp_path, command):
    names = [quick_model] if command == "convert" else [quick_model, quick_model]
    done = ddnsr("weights", command, *names, "-o", tmp_path / f"{'x' * 300}.pth")
    assert (done.code, done.err.count("\n")) == (5, 1)
    assert "cannot be written: File name too long" in done.err
    assert list(tmp_path.iterdir()) == []


def test_suffixes_of_weights_are_taken_in_any_case(ddnsr, image_file, quick_model, tmp_path):
    for name in ("x.PTH", "y.Param", "z.SAFETENSORS"):
        assert ddnsr("weights", "convert", quick_model, "-o", tmp_path / name).code == 0
        words = ("upscale", image_file(), "-m", tmp_path / name, "-o", tmp_path / f"{name}.png")
        assert ddnsr(*words).code == 0
    assert (tmp_path / "y.bin").exists()
