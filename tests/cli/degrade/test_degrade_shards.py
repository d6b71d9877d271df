"""--shard and --list of `ddnsr degrade`, by their effects."""

import pytest

from tests.helpers.pair_folders import refused, tree

SHARDS = ("1/3", "2/3", "3/3")


def without_manifest(folder):
    return {name: content for name, content in tree(folder).items() if not name.startswith("manifest")}


@pytest.mark.parametrize("words", [(), ("--method", "gaussian", "--per-image", 2)])
def test_the_shards_are_the_whole_and_one_run_without_them_makes_one_manifest(make, scene, words):
    assert make("whole", *words).code == 0
    written = []
    for shard in SHARDS:
        done = make("parts", *words, "--shard", shard)
        assert done.code == 0, done.err
        written += done.out.splitlines()
    assert len(written) == len(set(written)) == len(without_manifest(scene / "whole")) / 2
    assert without_manifest(scene / "parts") == without_manifest(scene / "whole")
    names = {path.name for path in (scene / "parts").glob("manifest*")}
    assert names == {f"manifest-{index}-of-3.jsonl" for index in (1, 2, 3)}
    done = make("parts", *words)
    assert (done.code, done.out) == (0, "")
    assert tree(scene / "parts") == tree(scene / "whole")


def test_a_shard_goes_on_where_it_was_and_leaves_the_others_alone(make, scene):
    for shard in SHARDS:
        make("pairs", "--shard", shard)
    before = tree(scene / "pairs")
    for shard in SHARDS:
        assert make("pairs", "--shard", shard).out == ""
    assert tree(scene / "pairs") == before


def test_what_another_number_of_shards_made_is_not_made_again(make, scene):
    for shard in ("1/2", "2/2"):
        make("pairs", "--shard", shard)
    assert [make("pairs", "--shard", shard).out for shard in SHARDS] == ["", "", ""]


def test_of_two_records_of_a_pair_the_newer_counts(make, scene):
    make("pairs", "--seed", 1)
    for shard in SHARDS:
        assert make("pairs", "--seed", 2, "--shard", shard, "--overwrite").code == 0
    make("fresh", "--seed", 2)
    done = make("pairs", "--seed", 2)
    assert (done.code, done.out) == (0, "")
    assert tree(scene / "pairs") == tree(scene / "fresh")


def test_another_shards_work_is_no_leftover(make, scene):
    make("pairs", "--shard", "1/3")
    (scene / "pairs/lr").mkdir(exist_ok=True)
    unfinished = scene / "pairs/lr/.other-1.part.png"
    unfinished.write_bytes(b"in work")
    make("pairs", "--shard", "2/3")
    assert unfinished.exists()
    make("pairs")
    assert not unfinished.exists()


def test_a_list_names_the_images(make, ddnsr, scene, monkeypatch):
    monkeypatch.chdir(scene)
    (scene / "files.txt").write_text("hr/deep/c.png\nhr/a.png\n")
    done = ddnsr("degrade", "--list", "files.txt", "-o", "pairs", "--method", "bicubic")
    assert done.code == 0, done.err
    assert done.out.split() == ["pairs/lr/hr/deep/c.png", "pairs/lr/hr/a.png"]


def test_a_report_is_for_all_pairs(make, scene):
    refused(make("pairs", "--shard", "1/3", "--realism-report", scene / "r.html"), 2, "without --shard")
