"""What a person at a terminal sees while a run trains, and what goes elsewhere."""

import io
import re

import pytest
from rich.console import Console
from rich.progress import Progress

from ddnsr_cli.cli.progress import LiveFigures, _Stages
from ddnsr_cli.training.loop import StepReport
from tests.helpers.joint_run import joint_words, vgg_file, write_images
from tests.helpers.small_training import small_training
from tests.helpers.terminal import on_a_terminal

FIGURES = {"content": 0.0123456, "disc_hr_real": 0.75, "disc_hr_fake": 0.25, "news": 3.0}


def drawn(figures, width):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(figures)
    return [line.strip() for line in console.file.getvalue().splitlines()]


def test_figures_are_grouped_with_speed_below():
    figures = LiveFigures(Progress())
    assert drawn(figures, 120) == []  # a bar without a task
    figures.latest = StepReport(step=1250, figures=FIGURES, images_per_s=63.14, waiting_share=0.013)
    lines = [re.sub(r" {2,}", " | ", line) for line in drawn(figures, 120)]
    assert lines[:5] == [
        "Degrader | content 0.01235",
        "HR discriminator: D(real) and D(fake) | real HR 0.75 | super-resolved 0.25",
        "news | news 3",
        "Speed | 63.1 images/s | waiting for data 1%",
        "Means up to step | 1,250",
    ]


def test_a_narrow_terminal_loses_no_figure():
    figures = LiveFigures(Progress())
    figures.latest = StepReport(step=1, figures=FIGURES, images_per_s=1.0, waiting_share=0.0)
    text = " ".join(drawn(figures, 40))
    assert all(part in text for part in ("0.01235", "0.75", "0.25", "1.0 images/s"))


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    place = tmp_path_factory.mktemp("live")
    folders, vgg = write_images(place / "images"), vgg_file(place / "vgg.safetensors")
    return lambda run, *more: joint_words(folders, vgg, run, "--l2", *more, track=2)


def test_a_terminal_shows_the_figures_in_place_and_keeps_the_last(words, tmp_path):
    given = words(tmp_path / "run", "--steps", 5, "--log-every", 1)
    seen = on_a_terminal(*given, columns=200, first=[(small_training, ())])
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    for part in ("content ", "LR discriminator: D(real) and D(fake)", "images/s", "waiting for data", "/5 steps"):
        assert part in text
    assert re.search(r"training .*/5 steps \d:\d\d:\d\d (\d|-):", text)  # time gone, time left
    assert re.findall(r"step (\d+ of \d+)  ", text) == ["5 of 5"]  # one line stays, the last
    assert text.splitlines()[-1] == str(tmp_path / "run/sr.safetensors")


def test_images_and_steps_have_clocks_of_their_own():
    clock = iter(range(0, 1000, 5))
    progress = Progress(get_time=lambda: float(next(clock)))
    stages = _Stages(progress)
    for image in range(1, 5):
        stages.move("looking", "images", image, 4)
    (task,) = progress.tasks
    assert (task.description, task.fields["unit"], task.finished) == ("looking", "images", True)
    stages.move("training", "steps", 1, 4)  # as many as there were images
    stages.move("training", "steps", 2, 4)
    (task,) = progress.tasks
    assert (task.description, task.fields["unit"], task.finished, task.completed) == ("training", "steps", False, 2)
    assert task.time_remaining


@pytest.mark.usefixtures("small_runs")
def test_elsewhere_there_is_a_line_a_report_and_nothing_else(ddnsr, words, tmp_path):
    done = ddnsr(*words(tmp_path / "run", "--steps", 6, "--log-every", 2))
    assert done.code == 0
    begun = [line.split("  ")[:2] for line in done.err.splitlines() if line.startswith("step ")]
    assert [step for step, _ in begun] == ["step 2 of 6", "step 4 of 6", "step 6 of 6"]
    assert [bool(re.fullmatch(r"\d+:\d\d:\d\d left", left)) for _, left in begun] == [True, True, False]
    assert "\x1b" not in done.err
    assert "images/s" in done.err
    quiet = ddnsr(*words(tmp_path / "quiet", "--steps", 1, "--log-every", 1, "--quiet"))
    assert (quiet.code, quiet.err) == (0, "")
