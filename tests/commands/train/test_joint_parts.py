"""The parts of a joint run that talk: of images, of drift; and the run folder that remembers."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ddnsr_cli.commands.train import run, run_folder
from ddnsr_cli.commands.train.callbacks import DRIFT_LEVELS, RunShow, ShownRun
from ddnsr_cli.commands.train.image_warnings import MOST_FINDINGS, ImageWarnings
from ddnsr_cli.commands.train.run import refuse_unusable
from ddnsr_cli.commands.train.run_folder import RunFolder
from ddnsr_cli.config import options_to_json
from ddnsr_cli.data.config import StreamConfig
from ddnsr_cli.data.images import match_pairs
from ddnsr_cli.data.targets import Refusal
from ddnsr_cli.data.validation.report import Finding, Role, Severity, Trouble
from ddnsr_cli.errors import ConfigError, DataError, TrainingError
from ddnsr_cli.inference.tiling import TileConfig
from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.nets.rrdb import RRDBNet
from ddnsr_cli.training.loop import Rhythm, StepReport
from ddnsr_cli.training.paired_options import PairedOptions
from ddnsr_cli.training.train_state import TrainState, net_tensors, restore_net


def finding(number, trouble=Trouble.SMALL):
    path = Path(f"{number}.png")
    sentence = f"{path} is of no use"
    return Finding(severity=Severity.ERROR, trouble=trouble, role=Role.HR, path=path, sentence=sentence)


def refusal(number):
    return Refusal(path=Path(f"{number}.png"), reason=f"{number}.png is of no use")


def told(*calls, most=MOST_FINDINGS):
    notes = []
    warnings = ImageWarnings(notes.append, most=most)
    for call in calls:
        call(warnings)
    return notes


def checked(*findings):
    return lambda warnings: warnings.findings(findings)


def test_four_of_a_kind_are_named_and_the_others_counted():
    found = [finding(n) for n in range(6)] + [finding(n, Trouble.NOISY) for n in range(4)]
    notes = told(checked(*found))
    assert sum("is of no use" in note for note in notes) == 8
    assert [note for note in notes if "more images" in note] == [
        "2 more images with the same trouble (too small); --check lists them all."
    ]
    assert len(told(checked(*found), most=None)) == 10


def test_what_the_checks_reported_is_not_reported_again():
    notes = told(
        checked(*[finding(n) for n in range(6)]),
        lambda warnings: warnings.refusals([refusal(n) for n in range(7)]),  # 6 is new: of another side, say
        lambda warnings: warnings.refusal(refusal(0)),
        lambda warnings: warnings.refusal(refusal(9)),
        lambda warnings: warnings.refusal(refusal(9)),
    )
    assert notes[-2:] == ["6.png is of no use", "9.png is of no use"]
    assert len(notes) == 4 + 1 + 2


def test_a_noisy_image_that_later_breaks_is_reported():
    notes = told(checked(finding(1, Trouble.NOISY)), lambda warnings: warnings.refusal(refusal(1)))
    assert len(notes) == 2


def test_many_that_are_sorted_out_without_the_checks_are_counted():
    notes = told(lambda warnings: warnings.refusals([refusal(n) for n in range(9)]))
    assert len(notes) == MOST_FINDINGS + 1
    assert notes[-1] == "5 more images cannot be used; --check lists them all."
    assert len(told(lambda warnings: warnings.refusals([refusal(n) for n in range(9)]), most=None)) == 9


def show(folder, notes, phase="joint"):
    trainer = SimpleNamespace(step=0)
    board = SimpleNamespace(scalars=lambda *_, **__: None)
    listener = SimpleNamespace(note=notes.append, report=lambda _row: None)
    kind = ShownRun(phase=phase, card=lambda _step, _record: "")
    return RunShow(trainer, RunFolder(folder), board, listener, (torch.zeros(0), torch.zeros(0)), kind)


def row(step, levels):
    return StepReport(step=step, figures={"color_drift": levels / 255}, images_per_s=1.0, waiting_share=0.0)


def test_drifting_colors_are_reported_once(tmp_path):
    notes = []
    told = show(tmp_path, notes)
    for step, levels in enumerate([0.9 * DRIFT_LEVELS, 1.1 * DRIFT_LEVELS, 5 * DRIFT_LEVELS]):
        told.report(row(step, levels))
    (note,) = notes
    assert note.startswith(f"Step 1: the colors of the results drift ({1.1 * DRIFT_LEVELS:.1f} of 255 levels)")
    assert note.endswith(
        "; a lower --learning-rate holds them, and so do more --degrader-only-steps or --loss "
        "pixel=... from the start on."
    )
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 3


def test_of_drift_on_pairs_no_option_of_tracks_is_named(tmp_path):
    notes = []
    show(tmp_path, notes, phase="paired").report(row(1, 2 * DRIFT_LEVELS))
    assert notes[0].endswith("Look at the samples; a lower --learning-rate holds them.")


def test_a_leading_degrader_has_no_drift_to_tell(tmp_path):
    notes = []
    show(tmp_path, notes).report(StepReport(step=1, figures={"content": 1.0}, images_per_s=1.0, waiting_share=0.0))
    assert notes == []


class Runner:
    """A trainer of one number."""

    def __init__(self, options=None):
        self.options = options or PairedOptions()
        self.net = nn.Linear(1, 1)
        self.step = 0

    def train_state(self, numbers):
        own = {"options": options_to_json(self.options), "rate_factor": 1.0}
        return TrainState(step=self.step, numbers={**own, **numbers}, tensors=net_tensors("net", self.net))

    def restore(self, train_state):
        restore_net("net", self.net, train_state.tensors)
        self.step = train_state.step


BESIDE = {"data": {}, "images": {}}


@pytest.fixture
def begun(tmp_path):
    folder = RunFolder(tmp_path / "run")
    runner = Runner()
    folder.prepare(runner)
    runner.step = 7
    folder.save(runner, dict(BESIDE))
    return folder


def test_a_new_folder_has_nothing_to_go_on_from(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert folder.numbers(PairedOptions(), free_to_change=()) is None
    assert folder.resume(Runner(), free_to_change=()) is None


@pytest.mark.parametrize("name", ["README.md", "sr.safetensors", "degrader.safetensors"])
def test_files_of_others_are_not_written_over(begun, name):
    begun.write_text(name, "mine")
    assert begun.numbers(PairedOptions(), free_to_change=()) is not None
    begun.state.unlink()
    with pytest.raises(TrainingError, match=rf"no save of a run, but {re.escape(name)}"):
        begun.numbers(PairedOptions(), free_to_change=())
    assert (begun.path / name).read_text() == "mine"


def test_a_run_comes_back(begun):
    runner = Runner()
    assert begun.resume(runner, free_to_change=())["rate_factor"] == 1.0
    assert runner.step == 7


def test_options_may_differ_where_that_is_free(begun):
    other = PairedOptions(stream=StreamConfig(workers=5))
    assert begun.numbers(other, free_to_change=("stream.workers",)) is not None
    with pytest.raises(TrainingError, match=r"--workers 1 -> 5"):
        begun.numbers(other, free_to_change=("schedule.",))


def test_options_of_another_kind_are_told_by_name(begun):
    with pytest.raises(
        TrainingError, match=r"another kind or version \(it differs in batch, .* and \d+ more\)"
    ) as caught:
        begun.numbers(StreamConfig(), free_to_change=())
    assert len(str(caught.value)) < 400


def test_an_option_that_the_save_does_not_know_is_of_another_version(begun, monkeypatch):
    known = options_to_json(PairedOptions())
    newer = known | {"stream": known["stream"] | {"newer": 1}}
    monkeypatch.setattr(run_folder, "options_to_json", lambda _: newer)
    with pytest.raises(TrainingError, match=r"another kind or version \(it differs in stream\.newer\)"):
        begun.numbers(PairedOptions(), free_to_change=())


UNWRITABLE = {
    "log.jsonl": lambda folder: folder.log({"step": 1}),
    "README.md": lambda folder: folder.write_text("README.md", "text"),
}


@pytest.mark.parametrize("name", UNWRITABLE)
def test_what_cannot_be_written_is_told_by_name(begun, name, monkeypatch):
    begun.log({"step": 0})

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(TrainingError, match=rf"{re.escape(str(begun.path / name))} could not be written \(No space"):
        UNWRITABLE[name](begun)
    monkeypatch.undo()
    assert begun.numbers(PairedOptions(), free_to_change=()) is not None
    assert [path.name for path in begun.state.parent.iterdir()] == ["last.safetensors"]


def test_a_line_that_a_kill_cut_short_is_ended_first(begun):
    begun.log({"step": 1})
    with (begun.path / "log.jsonl").open("a") as log:
        log.write('{"step": 2, "l1"')
    begun.log({"step": 3})
    lines = (begun.path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in (lines[0], lines[2])] == [1, 3]


@pytest.mark.parametrize("wrong", [{"keep_steps": 0}, {"log_steps": -1}])
def test_a_rhythm_without_sense_is_refused(wrong):
    with pytest.raises(ConfigError, match="at least 1"):
        Rhythm(**wrong)


@pytest.mark.parametrize(
    ("record", "known"), [({}, False), ({"latest": {"step": 2}}, False), ({"latest": {"step": 4}}, True)]
)
def test_a_run_knows_by_its_record_if_it_was_validated_where_it_goes_on(record, known):
    show = RunShow(SimpleNamespace(step=4), None, None, None, (), ShownRun(phase="paired", card=lambda *_: ""))
    rhythm = Rhythm(log_steps=1, save_steps=1, validate_steps=2)
    assert show.hooks([object()], None, record, rhythm, steps=6).is_validated(4) == known
    assert show.hooks([], None, record, rhythm, steps=6).is_validated(4)


def test_of_numbered_states_the_newest_stay_and_copies_of_the_user(tmp_path, monkeypatch):
    folder = RunFolder.__new__(RunFolder)
    folder.path = tmp_path
    folder.state = tmp_path / "state" / "last.safetensors"
    folder.state.parent.mkdir()
    names = ["step_9999000", "step_9999500", "step_10000000", "step_0001000-keep"]
    for name in names:
        (folder.state.parent / f"{name}.safetensors").touch()
    monkeypatch.setattr(run_folder, "save_train_state", lambda path, _state: path.touch())
    folder.save(SimpleNamespace(train_state=lambda numbers: None), {}, name="step_10000500")
    kept = sorted(path.stem for path in folder.state.parent.iterdir())
    assert kept == ["step_0001000-keep", "step_10000000", "step_10000500", "step_9999500"]


def test_a_card_may_name_a_folder_whose_name_is_no_text(tmp_path):
    folder = RunFolder.__new__(RunFolder)
    folder.path = tmp_path
    folder.write_text("README.md", "| images | caf\udce9 |\n")
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == "| images | caf\\udce9 |\n"


def test_lpips_asks_for_larger_images_to_validate_on(tmp_path):
    for name, size in (("lr", (10, 9)), ("hr", (40, 36))):
        (tmp_path / name).mkdir()
        Image.new("RGB", size).save(tmp_path / name / "a.png")
    pairs = match_pairs(tmp_path / "lr", tmp_path / "hr", scale=4)
    refuse_unusable(pairs, lpips=False)
    with pytest.raises(DataError, match=r"a\.png has 40 x 36 pixels, too few to validate on: 39 a side"):
        refuse_unusable(pairs, lpips=True)


def test_large_images_are_validated_in_tiles(tmp_path, monkeypatch):
    for name, size in (("lr", (20, 90)), ("hr", (80, 360))):
        (tmp_path / name).mkdir()
        noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / name / "a.png")
    pairs = match_pairs(tmp_path / "lr", tmp_path / "hr", scale=4)
    torch.manual_seed(0)
    net, seen = RRDBNet(RRDBConfig(features=4, blocks=1, growth=2)).eval(), []
    net.register_forward_pre_hook(lambda _net, given: seen.append(given[0].shape))
    whole = run.validation_scores(net, pairs, torch.device("cpu"))
    monkeypatch.setattr(run, "MOST_WHOLE_PX", 20 * 90 - 1)
    monkeypatch.setattr(run, "TileConfig", lambda: TileConfig(tile_px=32))
    assert run.validation_scores(net, pairs, torch.device("cpu")) == pytest.approx(whole, rel=1e-4)
    (first, *tiles) = seen
    assert first == (1, 3, 90, 20)
    assert len(tiles) > 1
    assert max(tile[2] for tile in tiles) < 90


def test_a_sample_sheet_that_has_no_folder_is_told_in_one_line(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.sample_path(7) == tmp_path / "samples/step_0000007.png"
    (tmp_path / "samples").rmdir()
    (tmp_path / "samples").write_bytes(b"")
    with pytest.raises(TrainingError, match=r"samples could not be written \(File exists\)\. The last save is intact"):
        folder.sample_path(8)
