import json
from dataclasses import replace

import pytest

from ddnsr_cli.commands.evaluate.mean_opinion import mean_opinions
from ddnsr_cli.commands.evaluate.models import Finished
from ddnsr_cli.commands.evaluate.options import EvaluateOptions
from ddnsr_cli.commands.evaluate.tables import (
    as_csv,
    as_json,
    as_markdown,
    describe_methodology,
    describe_opinions,
    interval_text,
    tables,
    write_text,
)
from ddnsr_cli.errors import ImageWriteError
from ddnsr_cli.metrics.statistics import Interval
from ddnsr_cli.reports.results import summarize
from tests.helpers.evaluation_results import LPIPS, PSNR, write_evaluation


@pytest.fixture
def evaluation(tmp_path):
    return write_evaluation(tmp_path)


def test_values_have_the_digits_of_their_metric():
    interval = Interval(mean=24.114, low=23.016, high=25.2)
    assert interval_text(interval, PSNR) == "24.11 [23.02, 25.20]"
    assert interval_text(interval, LPIPS, signed=True) == "+24.1140 [+23.0160, +25.2000]"


def test_one_image_has_no_interval(tmp_path):
    evaluation = write_evaluation(tmp_path, samples=1)
    summary = summarize(evaluation, against="bicubic")
    assert "[" not in tables(evaluation, summary)[0].rows[0][1]
    mean = json.loads(as_json(evaluation, summary))["models"]["alpha"]["mean"]["psnr_rgb"]
    assert (mean["low"], mean["high"]) == (None, None)


def test_the_worst_go_by_lpips_and_leave_bicubic_out(evaluation):
    summary = summarize(evaluation)
    worst = tables(evaluation, summary)[-1]
    assert worst.title == "Worst 4 by LPIPS Alex"
    assert worst.header == ("", "alpha", "beta")
    values = [float(row[1].split()[-1]) for row in worst.rows]
    assert values == sorted(values, reverse=True)
    by_psnr = replace(evaluation, metrics=(PSNR,))
    assert summarize(by_psnr).worst_by is PSNR
    rows = tables(by_psnr, summarize(by_psnr))[-1].rows
    values = [float(row[1].split()[-1]) for row in rows]
    assert values == sorted(values)


def test_a_p_that_is_corrected_is_called_so(tmp_path):
    evaluation = write_evaluation(tmp_path)
    assert tables(evaluation, summarize(evaluation, against="alpha"))[1].header[3] == "Wilcoxon p, by Holm"
    two = replace(evaluation, models=("alpha", "beta"))
    assert tables(two, summarize(two, against="alpha"))[1].header[3] == "Wilcoxon p"


def test_the_methodology_tells_the_test_and_its_correction(tmp_path):
    options = EvaluateOptions(hr=tmp_path, sr=("a", "b", "c"), against="a")
    models = [Finished(label=label, origin="finished images", paths={}) for label in "abc"]
    several = describe_methodology(options, models, None, None)
    assert "p is that of Wilcoxon's signed-rank test, two-sided, corrected by Holm for 2 models." in several
    assert "two-sided. " in describe_methodology(options, models[:2], None, None)
    assert "Wilcoxon" not in describe_methodology(replace(options, against=None), models, None, None)


def test_intervals_of_one_rater_are_over_images_alone(tmp_path):
    sheet = {"format": "ddnsr-ranks-1", "page": "p", "models": ["a", "b"], "images": ["x", "y"], "ranks": [[1, 2]] * 2}
    for rater in ("Ann", "Ben"):
        (tmp_path / rater).write_text(json.dumps({**sheet, "rater": rater}))
    alone = describe_opinions(mean_opinions([tmp_path / "Ann"], seed=0))
    assert alone == "Intervals by bootstrap over images (10000 draws). Raters: Ann."
    both = describe_opinions(mean_opinions([tmp_path / "Ann", tmp_path / "Ben"], seed=0))
    assert both == "Intervals by bootstrap over images and raters (10000 draws). Raters: Ann, Ben."


def test_bicubic_alone_has_its_worst_images_told(tmp_path):
    evaluation = write_evaluation(tmp_path, models=("bicubic",))
    assert tables(evaluation, summarize(evaluation))[-1].header == ("", "bicubic")


def test_names_with_strange_letters_break_no_table(tmp_path):
    names = ["a|b", 'c,"d"', "e\nf", "g\udcff"]
    evaluation = write_evaluation(tmp_path, names=names, models=("bi|cubic", "x"))
    summary = summarize(evaluation, against="x")
    lines = as_markdown(evaluation, summary).splitlines()
    assert "| bi\\|cubic | " in "\n".join(lines)
    assert any(line.startswith("| 1 | ") and line.count(" | ") == 2 for line in lines)
    write_text(tmp_path / "values.csv", as_csv(evaluation))
    assert len((tmp_path / "values.csv").read_bytes().split(b"\nx,")) == 5
    assert json.loads(as_json(evaluation, summary))["images"] == names


def test_names_are_words_in_markdown_and_no_html(tmp_path):
    names = ["<img src=x onerror=alert(1)>&amp;", "[a](b)", "`*c*` _d_ e_f \\|"]
    evaluation = write_evaluation(tmp_path, names=names, models=("<b>x", "y"))
    text = as_markdown(evaluation, summarize(evaluation))
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;amp;" in text
    assert "[a\\](b)" in text
    assert "\\`\\*c\\*\\` \\_d\\_ e_f \\\\\\|" in text
    assert "| &lt;b&gt;x | " in text
    assert "<" not in text
    assert "dB [" in text or " [" in text  # intervals are as they were


def test_csv_keeps_all_digits(evaluation):
    line = as_csv(evaluation).splitlines()[1].split(",")
    assert float(line[2]) == evaluation.values["bicubic", "scene_0"]["psnr_rgb"]


def test_a_file_that_cannot_be_written_is_reported_and_not_begun(tmp_path):
    with pytest.raises(ImageWriteError, match=r"none/out.csv could not be written"):
        write_text(tmp_path / "none" / "out.csv", "x")
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(ImageWriteError, match=r"out.csv could not be written"):
        write_text(tmp_path / "out.csv", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
