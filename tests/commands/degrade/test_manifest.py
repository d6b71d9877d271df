import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from ddnsr_cli.commands.degrade.manifest import HR, LR, MANIFEST, Manifest, PairRecord, PlannedPair
from ddnsr_cli.config import option_of
from ddnsr_cli.errors import ConfigError, ImageWriteError
from ddnsr_cli.io.selection import Shard

RECORD = PairRecord(
    method="learned",
    scale=4,
    seed=0,
    cleanup=1,
    sigma=None,
    patch_variance=None,
    noise_input=None,
    kernels=None,
    kernel_steps=None,
    degradation=None,
    model_sha256="ab" * 32,
    noise_set_sha256="cd" * 32,
    name="deep/a.png",
    hr_source="deep/a.jpg",
    hr_source_sha256="01" * 32,
    hr_source_bytes=100,
    variant=1,
    model="mine",
    noise_source="x\udcff.png",
    noise_sha256="23" * 32,
    kernel_source=None,
    noise_crop=(1, 2, 30, 40),
    hr_sha256="45" * 32,
    lr_sha256=sha256(b"image").hexdigest(),
)
PAIR = PlannedPair(
    source=Path("not/here/a.jpg"), name="deep/a.png", hr_source="deep/a.jpg", hr_source_bytes=100, variant=1
)
OTHER = replace(RECORD, name="b.png", hr_source="b.png")


@pytest.fixture
def folder(tmp_path):
    for side in (HR, LR):
        (tmp_path / side / "deep").mkdir(parents=True)
        (tmp_path / side / "deep/a.png").write_bytes(b"image")
    return tmp_path


def line(record=RECORD, **changes):
    manifest_line = json.loads(json.dumps({**vars(record), **changes}))
    return json.dumps(manifest_line).encode() + b"\n"


def test_records_come_back_as_they_were(folder):
    manifest = Manifest(folder)
    manifest.add(RECORD)
    manifest.add(OTHER)
    assert Manifest(folder).records == {RECORD.key: RECORD, OTHER.key: OTHER}
    assert Manifest(folder).lost == 0


def test_the_same_records_give_the_same_bytes_in_any_order(folder):
    texts = []
    for records in ((RECORD, OTHER), (OTHER, RECORD), (OTHER, RECORD, RECORD)):
        (folder / MANIFEST).unlink(missing_ok=True)
        manifest = Manifest(folder)
        for record in records:
            manifest.add(record)
        manifest.rewrite()
        texts.append((folder / MANIFEST).read_bytes())
    assert len(set(texts)) == 1
    assert texts[0].count(b"\n") == 2


@pytest.mark.parametrize("cut", [1, 30, 200, 500])
def test_a_line_cut_short_costs_that_pair_only(folder, cut):
    (folder / MANIFEST).write_bytes(line(OTHER) + line()[:-cut])
    manifest = Manifest(folder)
    assert list(manifest.records) == ([OTHER.key] if cut > 1 else [OTHER.key, RECORD.key])
    manifest.rewrite()
    manifest.add(RECORD)
    assert Manifest(folder).records == {OTHER.key: OTHER, RECORD.key: RECORD}


@pytest.mark.parametrize(
    "text",
    [
        b"\0\0\0\n",
        b"[]\n",
        b"null\n",
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        line(name="../../etc/x.png"),
        line(name="/etc/x.png"),
        line(name="deep/a.txt"),
        line(variant=[1]),
        line(hr_source=None),
        line(noise_crop=3),
        line(extra=1),
        line().replace(b'"seed"', b'"sead"'),
    ],
)
def test_lines_that_make_no_sense_are_lost_and_counted(folder, text):
    (folder / MANIFEST).write_bytes(text + line(OTHER))
    manifest = Manifest(folder)
    assert (list(manifest.records), manifest.lost) == ([OTHER.key], 1)


@pytest.mark.parametrize("name", ["seed", "model_sha256", "noise_set_sha256", "sigma", "cleanup", "method"])
def test_every_setting_counts(folder, name):
    manifest = Manifest(folder)
    manifest.add(RECORD)
    assert manifest.is_finished(PAIR, RECORD.settings)
    manifest.refuse_others([PAIR], RECORD.settings)
    changed = replace(RECORD.settings, **{name: "bicubic" if name == "method" else 7})
    assert not manifest.is_finished(PAIR, changed)
    with pytest.raises(ConfigError, match=rf"1 of these pairs made otherwise \({option_of(name)} .* -> "):
        manifest.refuse_others([PAIR], changed)


def test_finished_needs_both_files_the_name_and_the_same_source(folder):
    manifest = Manifest(folder)
    assert not manifest.is_finished(PAIR, RECORD.settings)
    manifest.add(RECORD)
    for other in (replace(PAIR, hr_source_bytes=99), replace(PAIR, name="deep/a_1.png")):
        assert not manifest.is_finished(other, RECORD.settings)
        with pytest.raises(ConfigError, match="1 of these pairs made otherwise"):
            manifest.refuse_others([other], RECORD.settings)
    (folder / LR / "deep/a.png").unlink()
    assert not manifest.is_finished(PAIR, RECORD.settings)


@pytest.mark.parametrize(("side", "content"), [(LR, b""), (LR, b"imago"), (HR, b"")])
def test_a_file_that_is_empty_or_another_lr_is_not_finished(folder, side, content):
    manifest = Manifest(folder)
    manifest.add(RECORD)
    assert manifest.is_finished(PAIR, RECORD.settings)
    (folder / side / "deep/a.png").write_bytes(content)
    assert not manifest.is_finished(PAIR, RECORD.settings)
    manifest.refuse_others([PAIR], RECORD.settings)


def test_what_is_forgotten_is_gone_and_nothing_else(folder):
    manifest = Manifest(folder)
    manifest.add(RECORD)
    manifest.add(OTHER)
    (folder / HR / "b.png").write_bytes(b"other")
    manifest.forget([replace(PAIR, name="deep/a_1.png"), replace(PAIR, variant=2)])
    assert list(manifest.records) == [OTHER.key]
    assert not (folder / HR / "deep/a.png").exists()
    assert not (folder / LR / "deep/a.png").exists()
    assert (folder / HR / "b.png").exists()


def test_a_manifest_that_cannot_be_read_or_written_is_reported(tmp_path):
    (tmp_path / MANIFEST).mkdir()
    with pytest.raises(ImageWriteError, match=r"manifest\.jsonl cannot be read"):
        Manifest(tmp_path)
    manifest = Manifest(tmp_path / "gone")
    for work in (manifest.rewrite, lambda: manifest.add(RECORD)):
        with pytest.raises(ImageWriteError, match=r"manifest\.jsonl cannot be written"):
            work()


def test_a_manifest_that_names_no_scale_is_of_4(folder):
    earlier = json.loads(line())
    del earlier["scale"]
    (folder / MANIFEST).write_bytes(json.dumps(earlier).encode() + b"\n")
    assert Manifest(folder).records == {RECORD.key: RECORD}


SAME_NAME = replace(PAIR, hr_source="deep/a.bmp")


def test_a_name_of_another_image_is_refused_and_its_pair_forgotten(folder):
    manifest = Manifest(folder)
    manifest.add(RECORD)
    manifest.add(OTHER)
    with pytest.raises(ConfigError, match=r"deep/a\.png of deep/a\.jpg, not deep/a\.bmp.* --overwrite"):
        manifest.refuse_others([SAME_NAME], RECORD.settings)
    manifest.forget([SAME_NAME])
    assert list(manifest.records) == [OTHER.key]
    assert not (folder / HR / "deep/a.png").exists()


def test_of_two_records_of_one_name_the_newer_counts(folder):
    newer = replace(RECORD, hr_source=SAME_NAME.hr_source)
    (folder / MANIFEST).write_bytes(line(OTHER) + line())
    (folder / "manifest-1-of-2.jsonl").write_bytes(line(newer))
    assert list(Manifest(folder).records) == [OTHER.key, newer.key]


def test_files_without_a_record_are_strangers_unless_they_were_begun(folder):
    manifest = Manifest(folder)
    with pytest.raises(ImageWriteError, match=r"hr/deep/a\.png.* --overwrite"):
        manifest.refuse_strangers([PAIR])
    manifest.begin(iter([PAIR]))
    for shard in (None, Shard(index=1, count=2)):
        Manifest(folder, shard).refuse_strangers([PAIR])
    manifest.rewrite()  # without a record of the pair: its files are there all the same
    Manifest(folder).refuse_strangers([PAIR])
    manifest.add(RECORD)
    manifest.rewrite()
    assert not (folder / "begun.jsonl").exists()
    Manifest(folder).refuse_strangers([PAIR])


@pytest.mark.parametrize("cut", [1, 300])
def test_the_files_of_a_line_that_is_lost_are_no_strangers(folder, cut):
    Manifest(folder).add(RECORD)
    (folder / MANIFEST).write_bytes((folder / MANIFEST).read_bytes()[:-cut].replace(b"seed", b"sead"))
    assert Manifest(folder).lost == 1
    for _ in range(2):
        manifest = Manifest(folder)
        manifest.refuse_strangers([PAIR])
        manifest.rewrite()
