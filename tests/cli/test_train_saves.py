"""What a joint run keeps, and how it goes back to it: roll-back, numbered states, the best one."""

import json
import signal

import pytest

from ddnsr_cli.commands.train import callbacks, image_warnings
from ddnsr_cli.training import train_state
from ddnsr_cli.training.train_state import load_numbers, load_train_state
from ddnsr_cli.training.trainer import JointTrainer
from tests.helpers.joint_run import joint_words, vgg_file, write_images

pytestmark = pytest.mark.usefixtures("small_runs")
QUICK = ("--ablation", "B", "--l2", "--log-every", 1)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    place = tmp_path_factory.mktemp("saves")
    return write_images(place / "images"), vgg_file(place / "vgg.safetensors")


@pytest.fixture
def train(ddnsr, scene):
    """`train(run, "--steps", 3)`: a run without discriminators, in this process."""
    return lambda run, *words: ddnsr(*joint_words(*scene, run, *QUICK, *words, track=2))


@pytest.fixture
def spoilt(monkeypatch):
    """`spoilt(step=3, times=1)`: the loss of a step is NaN, the first few times it is taken."""
    plain = JointTrainer.sr_losses

    def spoil(*, step, times):
        left = [times]

        def sr_losses(self, hr, made):
            terms = plain(self, hr, made)
            if self.step == step and left[0]:
                left[0] -= 1
                terms["squared"] = terms["squared"] * float("nan")
            return terms

        monkeypatch.setattr(JointTrainer, "sr_losses", sr_losses)

    return spoil


def rows(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def state(run, name="last"):
    return run / f"state/{name}.safetensors"


def roll_backs(done):
    return [line for line in done.err.splitlines() if "Back to step" in line]


def test_a_loss_that_is_not_finite_takes_the_run_back_at_half_the_rate(train, spoilt, tmp_path):
    run = tmp_path / "run"
    spoilt(step=3, times=1)
    done = train(run, "--steps", 5, "--save-every", 2, "--learning-rate", 0.001, "--warmup-steps", 0)
    assert done.code == 0, done.err
    (told,) = roll_backs(done)
    for part in ("Step 3", "squared nan", "Back to step 2", "0.5 times the rate"):
        assert part in told
    assert [(row["step"], row["rate"]) for row in rows(run)] == [
        (1, 0.001), (2, 0.001), (3, 0.001), (3, 0.0005), (4, 0.0005), (5, 0.0005)
    ]  # fmt: skip
    assert load_train_state(state(run)).step == 5
    assert load_numbers(state(run))["rate_factor"] == 0.5  # a resumed run stays at it


def test_after_three_times_the_run_ends_and_the_save_stays(train, spoilt, tmp_path):
    run = tmp_path / "run"
    spoilt(step=3, times=99)
    done = train(run, "--steps", 5, "--save-every", 2)
    assert done.code == 10
    assert [line.split("with ")[1] for line in roll_backs(done)] == [
        "0.5 times the rate.", "0.25 times the rate.", "0.125 times the rate."
    ]  # fmt: skip
    assert done.err.splitlines()[-1].startswith("error: Step 3 gave values that are not finite (squared nan")
    assert load_train_state(state(run)).step == 2


def test_before_the_first_save_there_is_nothing_to_go_back_to(train, spoilt, tmp_path):
    spoilt(step=0, times=1)
    done = train(tmp_path / "run", "--steps", 5)
    assert done.code == 10
    assert roll_backs(done) == []
    assert done.err.splitlines()[-1].startswith("error: Step 0 gave values")


def test_a_run_that_was_resumed_for_more_steps_goes_back_to_the_save_it_came_from(train, spoilt, tmp_path):
    assert train(tmp_path / "run", "--steps", 1).code == 0
    spoilt(step=1, times=1)
    done = train(tmp_path / "run", "--steps", 2)
    assert done.code == 0, done.err
    assert "Back to step 1" in roll_backs(done)[0]


def names(run):
    return sorted(path.name for path in (run / "state").iterdir())


def test_the_newest_three_numbered_states_stay(train, tmp_path):
    run = tmp_path / "run"
    assert train(run, "--steps", 9, "--save-every", 1, "--keep-every", 2).code == 0
    kept = [f"step_{step:07d}" for step in (4, 6, 8)]
    assert names(run) == ["last.safetensors", *(f"{name}.safetensors" for name in kept)]
    assert [load_train_state(state(run, name)).step for name in kept] == [4, 6, 8]
    assert train(run, "--steps", 10, "--keep-every", 5).code == 0
    assert names(run)[1:] == [f"step_{step:07d}.safetensors" for step in (6, 8, 10)]


def test_a_numbered_state_takes_the_place_of_the_last_one(train, tmp_path):
    run = tmp_path / "run"
    assert train(run, "--steps", 3, "--save-every", 1, "--keep-every", 2).code == 0
    whole = state(run).read_bytes()
    state(run).write_bytes(state(run, "step_0000002").read_bytes())
    assert train(run, "--steps", 3).code == 0
    assert state(run).read_bytes() == whole


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="signals of Unix")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_a_stop_does_not_wait_until_all_images_are_looked_at(train, monkeypatch, tmp_path, name):
    number, looked = getattr(signal, name), []

    def check_images(hr, lr, *, options, on_image):
        for image in range(1, 1000):
            looked.append(image)
            if image == 3:
                signal.raise_signal(number)
            on_image(image, 1000)

    monkeypatch.setattr(image_warnings, "check_images", check_images)
    done = train(tmp_path / "run", "--steps", 5)
    assert (done.code, done.out, done.err) == (128 + number, "", "")
    assert looked == [1, 2, 3]
    assert not (tmp_path / "run").exists()


class Killed(BaseException):
    """Ends a run where no handler of errors has a say."""


def dies_before(monkeypatch, number):
    """The run ends when a state is to be written for the `number`th time."""
    plain, left = train_state.save_file, [number]

    def save_file(*words, **named):
        left[0] -= 1
        if not left[0]:
            raise Killed
        plain(*words, **named)

    monkeypatch.setattr(train_state, "save_file", save_file)


def test_a_kill_between_two_states_loses_none_of_them(train, monkeypatch, image_file, tmp_path):
    image_file("val/lr/a.png", width=16, height=16), image_file("val/hr/a.png", width=64, height=64)
    scores = {1: 20.0, 2: 22.0, 3: 21.0, 4: 23.0}
    monkeypatch.setattr(callbacks, "validation_scores", lambda net, *_, **__: {"psnr_db": scores[done_steps()]})
    done_steps = counted_steps(monkeypatch)
    val = ("--val-lr", tmp_path / "val/lr", "--val-hr", tmp_path / "val/hr", "--validate-every", 1)
    words = ("--steps", 4, "--save-every", 2, "--keep-every", 2, *val)
    assert train(tmp_path / "whole", *words).code == 0
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole/state").iterdir()}
    assert sorted(whole) == [f"{name}.safetensors" for name in ("best", "last", "step_0000002", "step_0000004")]
    for number in range(1, 8):  # best of 1, best of 2, step_2, last of 2, best of 4, step_4, last of 4
        run = tmp_path / f"killed{number}"
        with monkeypatch.context() as patch:
            dies_before(patch, number)
            with pytest.raises(Killed):
                train(run, *words)
        assert train(run, *words).code == 0
        assert {path.name: path.read_bytes() for path in (run / "state").iterdir()} == whole, number


def counted_steps(monkeypatch):
    """A function that gives the steps that the newest trainer has done."""
    trainers, plain = [], JointTrainer.__init__

    def begin(self, *words, **named):
        trainers.append(self)
        plain(self, *words, **named)

    monkeypatch.setattr(JointTrainer, "__init__", begin)
    return lambda: trainers[-1].step


def validated(train, monkeypatch, image_file, tmp_path, scores):
    """The steps whose state was the best, one after the other, of a run with these scores after its steps."""
    image_file("val/lr/a.png", width=16, height=16), image_file("val/hr/a.png", width=64, height=64)
    given = iter(scores)
    monkeypatch.setattr(callbacks, "validation_scores", lambda *_, **__: next(given))
    best = []
    run = tmp_path / "run"
    words = (
        "--val-lr",
        tmp_path / "val/lr",
        "--val-hr",
        tmp_path / "val/hr",
        "--validate-every",
        1,
        "--warmup-steps",
        0,
    )
    for step in range(1, len(scores) + 1):
        done = train(run, "--steps", step, *words)
        assert done.code == 0, done.err
        best.append(load_train_state(state(run, "best")).step)
        assert load_numbers(state(run))["best"]["step"] == best[-1]
    return best


def test_the_best_state_is_that_of_the_lowest_lpips(train, monkeypatch, image_file, tmp_path):
    scores = [{"psnr_db": psnr, "lpips": lpips} for psnr, lpips in ((20, 0.5), (19, 0.4), (25, 0.45), (18, 0.3))]
    assert validated(train, monkeypatch, image_file, tmp_path, scores) == [1, 2, 2, 4]


def test_without_lpips_the_best_state_is_that_of_the_highest_psnr(train, monkeypatch, image_file, tmp_path):
    scores = [{"psnr_db": psnr, "ssim": 0.5} for psnr in (20, 19, 25, 24)]
    assert validated(train, monkeypatch, image_file, tmp_path, scores) == [1, 1, 3, 3]
