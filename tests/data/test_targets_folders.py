import pytest

from ddnsr_cli.config import TargetType
from ddnsr_cli.data.targets import TargetOptions, find_pair_folders, find_track_folders, find_validation_folders
from ddnsr_cli.errors import ConfigError, DataError

DIV2K, CLEANUP, MIXED, CANON = (TargetOptions(kind=kind) for kind in TargetType)


def make(data, *names):
    for name in names:
        (data / name).mkdir(parents=True)


def test_track_1_with_its_validation_pairs(tmp_path):
    make(tmp_path, "Corrupted-tr-x", "Corrupted-tr-y", "Corrupted-te-x", "Corrupted-va-x", "Corrupted-va-y")
    found = find_track_folders(tmp_path, 1, DIV2K)
    assert (found.hr, found.lr) == (tmp_path / "Corrupted-tr-y", tmp_path / "Corrupted-tr-x")
    assert (found.val_lr, found.val_hr) == (tmp_path / "Corrupted-va-x", tmp_path / "Corrupted-va-y")


def test_test_images_stand_in_for_validation_and_have_no_partners(tmp_path):
    make(tmp_path, "Corrupted-tr-x", "train-target", "Corrupted-te-x", "Corrupted-va-y")
    found = find_track_folders(tmp_path, 1, DIV2K)
    assert (found.hr, found.val_lr, found.val_hr) == (tmp_path / "train-target", tmp_path / "Corrupted-te-x", None)


def test_validation_images_without_ground_truth_have_no_partner(tmp_path):
    make(tmp_path, "Corrupted-tr-x", "train-target", "Corrupted-va-x", "other/Corrupted-va-y")
    found = find_track_folders(tmp_path, 1, DIV2K)
    assert (found.val_lr, found.val_hr) == (tmp_path / "Corrupted-va-x", None)


def test_validation_folders_need_no_images_to_train_on(tmp_path):
    make(tmp_path, "below/Corrupted-va-x", "below/Corrupted-va-y", "DPEDiphone-va")
    below = tmp_path / "below"
    assert find_validation_folders(tmp_path, 1) == (below / "Corrupted-va-x", below / "Corrupted-va-y")
    assert find_validation_folders(tmp_path, 2) == (tmp_path / "DPEDiphone-va", None)


def test_what_validation_lacks_is_named(tmp_path):
    with pytest.raises(DataError, match="lacks Corrupted-va-x or Corrupted-te-x"):
        find_validation_folders(tmp_path, 1)
    with pytest.raises(DataError, match="is not a folder"):
        find_validation_folders(tmp_path / "gone", 2)
    with pytest.raises(ConfigError, match="no track 3"):
        find_validation_folders(tmp_path, 3)


def test_track_2_finds_each_target_one_folder_below_too(tmp_path):
    make(tmp_path, "ntire20/DPEDiphone-tr-x", "ntire20/DPEDiphone-crop-te-x", "DIV2K_train_HR", "dped/canon")
    source, clean = tmp_path / "ntire20" / "DPEDiphone-tr-x", tmp_path / "DIV2K_train_HR"
    found = {kind: find_track_folders(tmp_path, 2, TargetOptions(kind=kind)) for kind in TargetType}
    assert {kind: folders.hr for kind, folders in found.items()} == {
        "div2k": clean,
        "cleanup": None,
        "mixed": clean,
        "canon": tmp_path / "dped" / "canon",
    }
    assert {folders.lr for folders in found.values()} == {source}
    assert {folders.val_lr for folders in found.values()} == {source.with_name("DPEDiphone-crop-te-x")}


def test_cleanup_needs_the_source_alone(tmp_path):
    make(tmp_path, "DPEDiphone-tr-x")
    found = find_track_folders(tmp_path, 2, CLEANUP)
    assert (found.hr, found.lr, found.val_lr, found.val_hr) == (None, tmp_path / "DPEDiphone-tr-x", None, None)


def test_the_name_of_the_challenge_wins_and_a_near_folder_over_a_deep_one(tmp_path):
    make(tmp_path, "Corrupted-tr-x", "a/Corrupted-tr-x", "DIV2K_train_HR", "a/train-target", "b/train-target")
    found = find_track_folders(tmp_path, 1, DIV2K)
    assert (found.lr, found.hr) == (tmp_path / "Corrupted-tr-x", tmp_path / "a" / "train-target")


@pytest.mark.parametrize(
    ("names", "target", "lacking", "there"),
    [
        ((), DIV2K, ("DPEDiphone-tr-x", "--lr", "train-target or", "--hr"), ("canon",)),
        (("DPEDiphone-tr-x",), DIV2K, ("train-target or", "--hr"), ("--lr", "canon")),
        (("DPEDiphone-tr-x",), MIXED, ("train-target or", "--hr"), ("--lr", "canon")),
        (("DPEDiphone-tr-x", "train-target"), CANON, ("into canon, or", "--hr"), ("--lr", "train-target")),
        (("train-target",), CLEANUP, ("DPEDiphone-tr-x", "--lr"), ("--hr", "train-target")),
    ],
)
def test_what_is_missing_is_named_in_one_line_and_nothing_else(tmp_path, names, target, lacking, there):
    make(tmp_path, *names)
    with pytest.raises(DataError) as caught:
        find_track_folders(tmp_path, 2, target)
    told = str(caught.value).removeprefix(str(tmp_path))
    assert all(word in told for word in ("track 2", str(target.kind), "one folder below", *lacking))
    assert not any(word in told for word in ("\n", *there))


def test_a_side_that_is_known_is_not_looked_for(tmp_path):
    make(tmp_path, "data/Corrupted-tr-x", "data/Corrupted-va-x", "data/Corrupted-va-y", "other/train-target")
    data, clean, noisy = tmp_path / "data", tmp_path / "clean", tmp_path / "noisy"
    found = find_track_folders(data, 1, MIXED, hr=clean)
    assert (found.hr, found.lr, found.val_hr) == (clean, data / "Corrupted-tr-x", data / "Corrupted-va-y")
    found = find_track_folders(tmp_path / "other", 1, DIV2K, lr=noisy)
    assert (found.hr, found.lr, found.val_lr) == (tmp_path / "other/train-target", noisy, None)
    with pytest.raises(DataError, match="clean HR images") as caught:
        find_track_folders(data, 1, DIV2K, lr=noisy)
    assert "noisy LR images" not in str(caught.value)


def test_a_file_of_the_right_name_is_no_folder(tmp_path):
    make(tmp_path, "DPEDiphone-tr-x")
    (tmp_path / "canon").write_bytes(b"")
    with pytest.raises(DataError, match="lacks"):
        find_track_folders(tmp_path, 2, CANON)


@pytest.mark.parametrize("names", [("lr", "hr"), ("LR", "HR"), ("Lr", "hR")])
def test_pairs_lie_in_lr_and_hr(tmp_path, names):
    make(tmp_path, *names, "other")
    assert find_pair_folders(tmp_path) == (tmp_path / names[0], tmp_path / names[1])


@pytest.mark.parametrize("names", [(), ("lr",), ("hr", "other"), ("lr", "hr", "HR")])
def test_a_folder_without_both_sides_holds_no_pairs(tmp_path, names):
    make(tmp_path, *names)
    if len({path.name for path in tmp_path.iterdir()}) == len(names):  # where names differ in case
        with pytest.raises(DataError, match="one folder lr and one folder hr"):
            find_pair_folders(tmp_path)
    with pytest.raises(DataError, match="holds 0 and 0"):
        find_pair_folders(tmp_path / "none")


def test_no_folder_and_no_such_track(tmp_path):
    with pytest.raises(DataError, match=r"not a folder.*Corrupted-tr-x with --data"):
        find_track_folders(tmp_path / "none", 1, DIV2K)
    with pytest.raises(ConfigError, match="no track 3"):
        find_track_folders(tmp_path, 3, DIV2K)
