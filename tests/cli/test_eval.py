"""`ddnsr eval` by its effects: what the figures are, and where they go."""

import csv
import json
import os
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ddnsr_cli.commands.evaluate import models
from ddnsr_cli.weights.checkpoint import load_sr_net, save_sr_net
from ddnsr_cli.weights.registry import read_registry
from tests.helpers.eval_files import levels, save, write_lpips, write_pairs, write_results


@pytest.fixture(autouse=True)
def no_lpips(monkeypatch):
    monkeypatch.delenv("DDNSR_LPIPS", raising=False)


@pytest.fixture
def pairs(tmp_path):
    return write_pairs(tmp_path / "pairs")


def test_the_figures_equal_scikit_image(eval_json, pairs, tmp_path):
    """To 1e-9: PSNR and SSIM on RGB and on Y, each image, from the files alone."""
    color, metrics = pytest.importorskip("skimage.color"), pytest.importorskip("skimage.metrics")
    results = write_results(tmp_path / "sr", pairs[1], 9)
    values = eval_json("--hr", pairs[1], "--sr", results)["models"]["sr"]["values"]
    assert set(values) == {"a", "b", "deep/c"}
    for name, found in values.items():
        sr, hr = (levels(folder / f"{name}.png")[4:-4, 4:-4] for folder in (results, pairs[1]))
        sr_y, hr_y = (color.rgb2ycbcr(image)[..., 0] for image in (sr, hr))
        how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
        assert found == pytest.approx(
            {
                "psnr_rgb": metrics.peak_signal_noise_ratio(hr, sr, data_range=255),
                "ssim_rgb": metrics.structural_similarity(sr, hr, channel_axis=2, **how),
                "psnr_y": metrics.peak_signal_noise_ratio(hr_y, sr_y, data_range=255),
                "ssim_y": metrics.structural_similarity(sr_y, hr_y, **how),
            },
            abs=1e-9,
        )


def test_folders_of_the_challenge_are_found(eval_json, ddnsr, pairs, quick_model, tmp_path):
    """Under the challenge's names the same images give the same figures."""
    given = eval_json("--lr", pairs[0], "--hr", pairs[1], "-m", quick_model)
    (tmp_path / "ntire").mkdir()
    pairs[0].rename(tmp_path / "ntire/Corrupted-va-x"), pairs[1].rename(tmp_path / "ntire/Corrupted-va-y")
    found = eval_json("--data", tmp_path, "-m", quick_model)
    assert found["models"]["quick"]["values"] == given["models"]["quick"]["values"]
    refused = ddnsr("eval", "--data", tmp_path, "--hr", tmp_path / "ntire/Corrupted-va-y", "-m", quick_model)
    assert refused.code == 2
    assert "leave out --data" in refused.err


def test_the_kept_images_are_those_of_the_network_and_of_pillow(ddnsr, pairs, quick_model, tmp_path):
    lr, hr = pairs
    done = ddnsr("eval", "--lr", lr, "--hr", hr, "-m", quick_model, "--keep", tmp_path / "kept")
    assert done.code == 0, done.err
    net, _ = load_sr_net(quick_model)
    for name in ("a", "b", "deep/c"):
        made = levels(tmp_path / "kept" / "quick" / f"{name}.png")
        small = torch.from_numpy(levels(lr / f"{name}.png").copy()).permute(2, 0, 1)[None] / 255
        expected = net(small)[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
        assert np.abs(made.astype(int) - expected).max() <= 1  # a processor may compute in bf16
        image = Image.fromarray(levels(lr / f"{name}.png"))
        larger = np.asarray(image.resize((4 * image.width, 4 * image.height), Image.Resampling.BICUBIC))
        assert np.array_equal(levels(tmp_path / "kept" / "bicubic" / f"{name}.png"), larger)


def test_bicubic_is_the_first_row_wherever_there_are_lr_images(eval_json, pairs, quick_model, tmp_path):
    lr, hr = pairs
    results = write_results(tmp_path / "sr", hr, 3)
    both = eval_json("--lr", lr, "--hr", hr, "-m", f"bicubic,{quick_model}", "--sr", f"theirs={results}")
    assert list(both["models"]) == ["bicubic", "quick", "theirs"]
    assert list(eval_json("--hr", hr, "--sr", results)["models"]) == ["sr"]


def test_the_bundled_model_is_the_default(eval_json, pairs):
    assert list(eval_json("--lr", pairs[0], "--hr", pairs[1], "--offline")["models"]) == ["bicubic", "ddnsr-lite"]


def test_of_weights_for_research_only_the_user_is_reported(ddnsr, pairs, monkeypatch):
    ours = read_registry()
    entries = tuple(replace(entry, research_only=True) for entry in ours.entries)
    monkeypatch.setattr(models, "read_registry", lambda: replace(ours, entries=entries))
    done = ddnsr("eval", "--lr", pairs[0], "--hr", pairs[1], "--lpips", "none")
    assert done.code == 0
    assert done.err.startswith("note: ddnsr-lite is for research only")


def test_models_come_from_runs_and_foreign_files_and_may_be_named(eval_json, pairs, small_net, as_layout, tmp_path):
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    save_sr_net(run / "sr.safetensors", small_net(), metadata={}, half=False)
    torch.save({"params_ema": as_layout(small_net().state_dict(), 3)}, tmp_path / "theirs.pth")
    found = eval_json("--lr", pairs[0], "--hr", pairs[1], "-m", f"{run},Old={tmp_path / 'theirs.pth'}")["models"]
    assert list(found) == ["bicubic", "mine", "Old"]
    assert found["mine"]["values"] == found["Old"]["values"]  # the same network under other names


def test_the_border_counts_for_every_metric_and_is_stated(eval_json, pairs, tmp_path):
    results = write_results(tmp_path / "sr", pairs[1], 9)
    for name in ("a", "b", "deep/c"):
        framed = levels(results / f"{name}.png").copy()
        framed[:6] = framed[:, -6:] = 0
        save(tmp_path / "framed" / f"{name}.png", framed)
    words = ["--hr", pairs[1], "--sr", results, "--sr", tmp_path / "framed"]
    inside, outside = eval_json(*words, "--crop-border", 6), eval_json(*words, "--crop-border", 5)
    assert inside["models"]["sr"]["values"] == inside["models"]["framed"]["values"]
    for key in inside["metrics"]:
        assert outside["models"]["sr"]["mean"][key] != outside["models"]["framed"]["mean"][key]
    assert "6 HR pixels of border are cut off" in inside["methodology"]


def test_equal_images_have_100_db(eval_json, pairs):
    mean = eval_json("--hr", pairs[1], "--sr", pairs[1])["models"]["hr"]["mean"]
    assert mean["psnr_rgb"]["mean"] == mean["psnr_y"]["mean"] == 100
    assert mean["ssim_rgb"]["mean"] == pytest.approx(1)


def test_lpips_is_that_of_the_network_over_the_same_inner_part(eval_json, pairs, tmp_path, monkeypatch):
    lpips = write_lpips(tmp_path / "weights", "squeeze")
    monkeypatch.setenv("DDNSR_LPIPS", str(tmp_path / "weights"))
    results = write_results(tmp_path / "sr", pairs[1], 9)
    found = eval_json("--hr", pairs[1], "--sr", results, "--lpips", "squeeze")
    sr, hr = (
        torch.from_numpy(levels(folder / "a.png")[4:-4, 4:-4].copy()).permute(2, 0, 1)[None] / 255
        for folder in (results, pairs[1])
    )
    assert found["models"]["sr"]["values"]["a"]["lpips_squeeze"] == pytest.approx(lpips(sr, hr).item(), rel=1e-5)
    assert "LPIPS is v0.1 on SqueezeNet 1.1 (lpips_squeeze_v0.1.safetensors, sha256 " in found["methodology"]


def test_lpips_on_alexnet_is_taken_when_it_is_there(eval_json, pairs, tmp_path):
    write_lpips(tmp_path, "alex")
    weights = tmp_path / "lpips_alex_v0.1.safetensors"
    found = eval_json("--hr", pairs[1], "--sr", pairs[1], "--lpips-weights", weights)
    assert found["models"]["hr"]["mean"]["lpips_alex"]["mean"] == 0
    assert "lpips_alex" not in eval_json("--hr", pairs[1], "--sr", pairs[1], "--lpips", "none")["metrics"]


def test_without_its_weights_the_table_goes_without_lpips_and_says_so(ddnsr, pairs):
    done = ddnsr("eval", "--hr", pairs[1], "--sr", pairs[1])
    assert done.code == 0
    assert "LPIPS" not in done.out
    without = "note: the table goes without LPIPS: its AlexNet is not here. --lpips alex"
    assert done.err == f"{without} fetches it once (244 MB)\n"
    offline = ddnsr("eval", "--hr", pairs[1], "--sr", pairs[1], "--offline")
    assert offline.err == f"{without} without --offline fetches it once (244 MB)\n"
    asked = ddnsr("eval", "--hr", pairs[1], "--sr", pairs[1], "--lpips", "alex", "--offline")
    assert (asked.code, asked.out) == (5, "")
    assert "--lpips-weights FILE" in asked.err


def test_lpips_that_is_named_is_fetched_and_found_again_offline(ddnsr, pairs, tmp_path, monkeypatch):
    """From a server in the place of PyTorch's; by default nothing is fetched, and what is there is used."""
    import functools
    import threading
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    from ddnsr_cli.files import sha256_of
    from ddnsr_cli.weights import feature_weights
    from ddnsr_cli.weights import feature_weights as classifiers
    from tests.helpers.lpips_trunks import trunk_shapes

    name = classifiers.ALEXNET.name
    generator = torch.Generator().manual_seed(1)
    drawn = {key: torch.randn(shape, generator=generator) / 10 for key, shape in trunk_shapes("alex").items()}
    (tmp_path / "server").mkdir()
    torch.save(drawn, tmp_path / "server" / name)
    pinned = replace(classifiers.ALEXNET, sha256=sha256_of(tmp_path / "server" / name), size_bytes=1 << 24)
    monkeypatch.setitem(feature_weights._TORCHVISION, "alex", pinned)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=tmp_path / "server")
    words = ["eval", "--hr", pairs[1], "--sr", write_results(tmp_path / "sr", pairs[1], 9), "--json", "-"]
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setattr(classifiers, "SERVER", f"http://127.0.0.1:{server.server_port}")
        unasked = ddnsr(*words)
        assert "lpips_alex" not in json.loads(unasked.out)["metrics"]
        assert "--lpips alex" in unasked.err
        first = ddnsr(*words, "--lpips", "alex")
        server.shutdown()
    assert first.code == 0, first.err
    found = json.loads(first.out)
    assert found["models"]["sr"]["mean"]["lpips_alex"]["mean"] > 0
    assert f"LPIPS is v0.1 on AlexNet ({name} with the heads of lpips 0.1.4, sha256 {pinned.sha256})" in first.out
    assert json.loads(ddnsr(*words).out) == json.loads(ddnsr(*words, "--offline").out) == found


def test_off_a_terminal_the_table_is_plain_text(ddnsr, pairs, tmp_path):
    results = write_results(tmp_path / "sr", pairs[1], 9)
    out = ddnsr("eval", "--hr", pairs[1], "--sr", f"theirs={results}", "--sr", pairs[1], "--against", "hr").out
    lines = out.splitlines()
    assert lines[0] == "3 images, mean [95 % interval]"
    assert lines[1].split("  ")[-1] == "SSIM Y"
    assert lines[2].startswith("theirs  ")
    assert lines[3].split()[:2] == ["hr", "100.00"]
    assert "Against hr, image by image" in lines
    assert "Worst 3 by PSNR RGB (dB)" in lines
    assert lines[-1].startswith("All images in 8-bit levels")
    assert "\x1b" not in out


def test_on_a_terminal_the_table_is_drawn(ddnsr, pairs, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # what makes rich take anything for a terminal
    monkeypatch.setenv("COLUMNS", "120")
    out = ddnsr("eval", "--hr", pairs[1], "--sr", pairs[1], "-q").out
    assert "┃" in out
    assert "[100.00, 100.00]" in out


def test_json_csv_and_markdown_tell_the_same(ddnsr, pairs, tmp_path):
    results = write_results(tmp_path / "sr", pairs[1], 9)
    files = {kind: tmp_path / f"out.{kind}" for kind in ("json", "csv", "markdown")}
    words = [word for kind, path in files.items() for word in (f"--{kind}", path)]
    table = ddnsr("eval", "--hr", pairs[1], "--sr", results, *words).out
    whole = json.loads(files["json"].read_text())["models"]["sr"]
    with files["csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["image"]) for row in rows] == [("sr", "a"), ("sr", "b"), ("sr", "deep/c")]
    for row in rows:
        assert {key: float(row[key]) for key in ("psnr_rgb", "ssim_y")}.items() <= whole["values"][row["image"]].items()
    assert whole["mean"]["psnr_rgb"]["mean"] == pytest.approx(np.mean([float(row["psnr_rgb"]) for row in rows]))
    mean = f"{whole['mean']['psnr_rgb']['mean']:.2f} ["
    assert mean in table
    assert f"| sr | {mean}" in files["markdown"].read_text()


def test_a_dash_is_stdout_and_then_nothing_else_is(ddnsr, pairs):
    words = ["eval", "--hr", pairs[1], "--sr", pairs[1], "-q"]
    assert json.loads(ddnsr(*words, "--json", "-").out)
    assert ddnsr(*words, "--csv", "-").out.startswith("model,image,psnr_rgb,ssim_rgb,psnr_y,ssim_y\nhr,a,100.0,")
    assert ddnsr(*words, "--markdown", "-").out.startswith("**3 images, ")
    assert json.loads(ddnsr(*words, "--json", "/dev/stdout").out)
    both = ddnsr(*words, "--json", "-", "--csv", "/dev/fd/1")
    assert (both.code, both.out) == (2, "")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes")
def test_a_pipe_is_written_to_and_a_device_is_refused_before_the_work(ddnsr, pairs, tmp_path):
    words = ["eval", "--hr", pairs[1], "--sr", pairs[1], "-q"]
    reading, writing = os.pipe()
    assert ddnsr(*words, "--json", f"/dev/fd/{writing}").code == 0
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        assert json.loads(stream.read())
    for option in ("--csv", "--report"):
        done = ddnsr(*words, option, "/dev/null")
        assert (done.code, done.out, done.err.count("\n")) == (4, "", 1)
        assert "is a device" in done.err


def test_the_same_run_gives_the_same_bytes(ddnsr, pairs, quick_model, tmp_path):
    words = ["eval", "--lr", pairs[0], "--hr", pairs[1], "-m", quick_model, "--against", "bicubic"]
    texts = [ddnsr(*words, "--json", "-").out for _ in range(2)]
    assert texts[0] == texts[1]
    assert texts[0].count("low") > 10


def test_against_one_model_image_by_image(eval_json, pairs, tmp_path):
    names = [f"{place:02}" for place in range(9)]
    _, hr = write_pairs(tmp_path / "nine", names)
    for model, sigma in {"good": 3, "poor": 12}.items():
        write_results(tmp_path / model, hr, sigma, names=names)
    found = eval_json("--hr", hr, "--sr", tmp_path / "good", "--sr", tmp_path / "poor", "--against", "poor")
    compared = found["models"]["good"]["against"]["psnr_rgb"]
    means = {model: found["models"][model]["mean"]["psnr_rgb"]["mean"] for model in ("good", "poor")}
    assert compared["difference"]["mean"] == pytest.approx(means["good"] - means["poor"])
    assert compared["win_rate"] == 1
    assert compared["p_value"] == pytest.approx(2 / 2**9)
    assert found["models"]["poor"]["against"] == {}
    values = found["models"]["poor"]["values"]
    worst = sorted(values, key=lambda name: values[name]["psnr_rgb"])
    assert found["models"]["poor"]["worst"] == worst


def test_the_verdict_is_the_same_in_table_json_and_page_without_scipy(ddnsr, pairs, tmp_path, monkeypatch):
    results = write_results(tmp_path / "sr", pairs[1], 9)
    words = ("eval", "--hr", pairs[1], "--sr", results, "--sr", pairs[1], "--against", "hr", "--lpips", "none")
    with_scipy = ddnsr(*words, "--json", tmp_path / "a.json", "--report", tmp_path / "a.html")
    for name in ("scipy", "scipy.stats"):
        monkeypatch.setitem(sys.modules, name, None)
    done = ddnsr(*words, "--json", tmp_path / "b.json", "--report", tmp_path / "b.html")
    assert (done.code, done.out) == (0, with_scipy.out)
    for kind in ("json", "html"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    verdicts = {
        row["verdict"] for row in json.loads((tmp_path / "b.json").read_text())["models"]["sr"]["against"].values()
    }
    assert verdicts == {"not clear"}  # of three images nothing is
    assert done.out.count("not clear") == len(json.loads((tmp_path / "b.json").read_text())["metrics"])
    page = (tmp_path / "b.html").read_text()
    assert "not clear" in page
    assert '<em class="worse">' not in page


def test_sixteen_bits_and_gray_are_judged_as_8_bit_rgb(eval_json, tmp_path):
    for name in ("a", "b"):
        image = np.random.default_rng(len(name)).integers(0, 256, (40, 44, 3))
        save(tmp_path / "hr" / f"{name}.png", image, depth=16)
        save(tmp_path / "sr" / f"{name}.png", image + 1, depth=16)
    values = eval_json("--hr", tmp_path / "hr", "--sr", tmp_path / "sr")["models"]["sr"]["values"]["a"]
    assert values["psnr_rgb"] == pytest.approx(48.13, abs=0.1)


def test_the_worst_are_ten_at_most(eval_json, tmp_path):
    names = [f"{place:02}" for place in range(12)]
    _, hr = write_pairs(tmp_path, names)
    write_results(tmp_path / "sr", hr, 5, names=names)
    assert len(eval_json("--hr", hr, "--sr", tmp_path / "sr")["models"]["sr"]["worst"]) == 10
