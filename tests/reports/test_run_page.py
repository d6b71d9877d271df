import base64
import json
import os
import re
import sys
import time
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.errors import TrainingError
from ddnsr_cli.reports.history import PANELS, panels_for
from ddnsr_cli.reports.run_page import write_run_report
from tests.helpers.run_files import joint_rows, write_run, write_sample

VOID = {"meta", "img", "path"}


class Page(HTMLParser):
    """Elements and words of a page; complains about tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["script"]):
            self.words.append(data)

    def all(self, tag, **wanted):
        return [found for name, found in self.elements if name == tag and wanted.items() <= found.items()]

    def text(self):
        return " ".join(" ".join(self.words).split())


def page_of(run):
    path = write_run_report(run)
    assert path == run / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def drawn(page, color=0):
    """[[x, y], ...] of the curves of a color, in the order of the panels."""
    found = page.all("path", **{"class": f"line c{color}"})
    return [np.array(re.findall(r"[\d.]+", path["d"]), float).reshape(-1, 2) for path in found]


def images(page):
    sources = [found["src"] for found in page.all("img")]
    return [Image.open(BytesIO(base64.b64decode(source.partition(",")[2]))) for source in sources]


def test_a_sheet_that_takes_the_place_of_another_is_shown(tmp_path):
    """Pages are made again and again, and encode a sheet once."""
    run = write_run(tmp_path / "run", [{"step": 100, "l1": 0.5}])
    path = write_sample(run, 100)
    (before,), (same,) = images(page_of(run)), images(page_of(run))
    assert before.tobytes() == same.tobytes()
    Image.new("RGB", (600, 60), (250, 0, 0)).save(path)
    (now,) = images(page_of(run))
    assert now.size == (600, 60)
    path.unlink()
    assert images(page_of(run)) == []


def test_a_curve_lies_where_its_values_are(tmp_path):
    rows = [{"step": step, "waiting": value} for step, value in [(0, 0.0), (25, 1.0), (50, 0.25), (100, 0.5)]]
    (line,) = drawn(page_of(write_run(tmp_path / "run", rows)))
    np.testing.assert_array_equal(line, [[0, 1000], [250, 0], [500, 750], [1000, 500]])


def test_a_factor_is_a_distance_where_losses_span_decades(tmp_path):
    rows = [{"step": step, "content": 10.0**-step, "cycle": 1.0} for step in range(4)]
    page = page_of(write_run(tmp_path / "run", rows))
    line, flat = (drawn(page, color)[0] for color in (0, 1))
    falls = np.diff(line[:, 1])
    assert np.ptp(falls) <= 1
    assert falls[0] > 300
    assert (flat[:, 1] == line[0, 1]).all()


def test_a_peak_of_one_row_among_thousands_is_drawn(tmp_path):
    rows = [{"step": step, "waiting": 1.0 if step == 3210 else 0.1} for step in range(0, 6000)]
    page = page_of(write_run(tmp_path / "run", rows))
    (raw,) = page.all("path", **{"class": "raw c0"})
    points = np.array(re.findall(r"[\d.]+", raw["d"]), float).reshape(-1, 2)
    assert 250 < len(points) < 700
    np.testing.assert_allclose(points[points[:, 1].argmin()], [1000 * 3210 / 5999, 0], atol=0.06)


def test_one_point_alone_is_a_dot(tmp_path):
    page = page_of(write_run(tmp_path / "run", [{"step": 50, "l1": 0.5}]))
    assert [path["d"] for path in page.all("path", **{"class": "line c0"})] == ["M1000 500L1000 500"]


def test_the_points_of_a_short_curve_are_marked(tmp_path):
    rows = [{"step": step, "waiting": 0.5, **({"l1": 0.5} if step < 12 else {})} for step in range(13)]
    page = page_of(write_run(tmp_path / "run", rows))
    (dots,) = page.all("path", **{"class": "dots c0"})
    assert re.findall(r"M([\d.]+) 500L\1 500", dots["d"]) == [
        f"{1000 * step / 12:.1f}".removesuffix(".0") for step in range(12)
    ]


@pytest.mark.parametrize(
    ("name", "best"), [("psnr_db", "30 at step 200"), ("ssim", "30 at step 200"), ("lpips", "10 at step 100")]
)
def test_the_best_score_is_marked(tmp_path, name, best):
    rows = [{"step": step, name: value} for step, value in [(100, 10.0), (200, 30.0), (400, 20.0)]]
    page = page_of(write_run(tmp_path / "run", rows))
    (dot,) = page.all("b", **{"class": "best"})
    (line,) = drawn(page)
    at = line[[point[0] == 10 * int(best.split()[-1]) / 4 for point in line]][0]
    assert dot["style"].startswith(f"left:{at[0] / 10:.2f}%;top:")
    assert float(re.search(r"top:([\d.]+)", dot["style"]).group(1)) == pytest.approx(at[1] / 10, abs=0.06)
    assert f"Best: {best}." in page.text()


def test_every_figure_of_a_joint_run_has_its_place(tmp_path):
    page = page_of(write_run(tmp_path / "run", joint_rows(400, validate=100)))
    others = (  # of other kinds of training
        "Mean absolute error",
        "Translation at LR size, there and back",
        "Clean LR discriminator: D(real) and D(fake)",
        "Gradient norms of the way back",
    )
    titles = [panel.title for panel in PANELS if panel.title not in others]
    text = page.text()
    assert all(title in text for title in titles)
    assert "Other" not in text
    assert len(page.all("svg")) == len(titles)
    assert len(page.all("li")) == 3 + 3 + 3 + 4 + 2 + 4 + 1 + 4 + 2 + 2
    assert len(drawn(page)) == len(titles)


def test_a_figure_that_no_panel_knows_gets_its_own(tmp_path):
    page = page_of(write_run(tmp_path / "run", [{"step": 50, "rate_factor": 0.5}, {"step": 100, "rate_factor": 0.25}]))
    assert "Other rate_factor" in page.text()
    assert len(drawn(page)) == 1


def test_panels_have_colors_for_all_their_curves():
    assert max(len(panel.figures) for panel in PANELS) <= 5
    names = [name for panel in PANELS for name in panel.figures]
    assert len(names) == len(set(names))
    assert [panel.section for panel in panels_for(["odd", "pixel"])] == ["Losses", "Other"]


def test_latest_figures_options_and_progress_are_reported(tmp_path):
    options = {"schedule": {"steps": 400, "milestones": [1, 2]}, "discriminator": "patchgan", "clip": None}
    rows = [{"step": 50, "l1": 0.5}, {"step": 100, "l1": 0.123456}]
    text = page_of(write_run(tmp_path / "my run", rows, options)).text()
    assert "my run 100 of 400 steps, 25%" in text
    assert "l1 0.1235 0.1235 0.5 100" in text  # name, latest, least, greatest, step: cells of one row
    assert "schedule.milestones [1, 2]" in text
    assert 'discriminator "patchgan"' in text
    assert "clip null" in text


@pytest.mark.parametrize("options", [{}, {"schedule": 3}, {"schedule": {"steps": None}}, {"schedule": {"steps": 0}}])
def test_a_run_of_unknown_length_tells_its_steps(tmp_path, options):
    page = page_of(write_run(tmp_path / "run", [{"step": 1250, "l1": 0.5}], options))
    assert "1,250 steps" in page.text()
    assert not page.all("progress")


@pytest.mark.parametrize("rows", [[], [{"step": 50}]])
def test_a_run_that_has_logged_nothing_has_a_page(tmp_path, rows):
    assert "No figures have been logged yet." in page_of(write_run(tmp_path / "run", rows)).text()


def test_a_line_cut_by_a_kill_is_reported_and_left_out(tmp_path):
    run = write_run(tmp_path / "run", [{"step": 50, "l1": 0.5}])
    with (run / "log.jsonl").open("a") as log:
        log.write('{"step": 100, "l1"')
    text = page_of(run).text()
    assert "could not be read: 1." in text
    assert "50 of 1,000 steps" in text


EVIL = '<evil x="1">&\'"</script></style>$title${x}'


def test_names_and_options_are_words_and_nothing_else(tmp_path):
    folder = EVIL.replace("/", "\N{FRACTION SLASH}")
    run = write_run(tmp_path / folder, [{"step": 50, EVIL: 0.5}], {EVIL: {EVIL: EVIL}})
    page = page_of(run)
    text = page.text()
    assert text.count(EVIL) == 5  # panel, legend, table, and two parts of an option's name
    assert text.count(folder) == 2  # title, heading
    assert f"{EVIL}.{EVIL}" in text
    assert not page.all("evil")
    assert len(page.all("script")) == len(page.all("style")) == 1


def test_the_newest_three_sheets_are_inside(tmp_path):
    run = write_run(tmp_path / "run", [])
    for step in (9, 100, 20, 150):
        write_sample(run, step)
    write_sample(run, 12_345_678)  # more digits: later by number, not by name
    (run / "samples" / "step_x.png").write_bytes(b"")
    page = page_of(run)
    assert [image.getpixel((5, 5))[0] for image in images(page)] == pytest.approx([78, 150, 100], abs=2)
    assert [image.size for image in images(page)] == [(640, 80)] * 3
    links = [found["href"] for found in page.all("a")]
    assert links == [f"samples/step_{step:07d}.png" for step in (12_345_678, 150, 100)]
    assert all((run / link).exists() for link in links)


def test_a_wide_sheet_is_made_smaller(tmp_path):
    run = write_run(tmp_path / "run", [])
    write_sample(run, 50, width=3200, height=200)
    page = page_of(run)
    assert [image.size for image in images(page)] == [(1600, 100)]
    assert [(found["width"], found["height"]) for found in page.all("img")] == [("1600", "100")]


def test_a_damaged_sheet_does_not_stop_the_page(tmp_path):
    run = write_run(tmp_path / "run", [{"step": 50, "l1": 0.5}])
    write_sample(run, 50)
    path = write_sample(run, 100)
    path.write_bytes(path.read_bytes()[:60])
    page = page_of(run)
    assert "step_0000100.png cannot be read." in page.text()
    assert len(page.all("img")) == 1
    assert len(drawn(page)) == 1


def test_the_page_asks_for_nothing_from_elsewhere(tmp_path):
    run = write_run(tmp_path / "run", joint_rows(400, validate=100))
    write_sample(run, 50)
    page = page_of(run)
    text = (run / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]|@import|url\(|\bfetch\b|XMLHttp|import\(", text)
    assert not page.all("link")
    assert all(
        value.startswith("data:") for _, found in page.elements for name, value in found.items() if name == "src"
    )
    (policy,) = [found["content"] for found in page.all("meta") if "http-equiv" in found]
    assert policy.startswith("default-src 'none';")


def test_a_long_run_is_a_small_page_made_quickly(tmp_path):
    run = write_run(tmp_path / "run", joint_rows(300_000))
    start = time.process_time()
    write_run_report(run)
    assert time.process_time() - start < 5  # about 0.2 s; per validation
    assert 100_000 < (run / "report.html").stat().st_size < 600_000


def test_same_files_same_page(tmp_path):
    run = write_run(tmp_path / "run", joint_rows(400, validate=100))
    write_sample(run, 50)
    first = write_run_report(run).read_bytes()
    assert write_run_report(run).read_bytes() == first
    assert sorted(path.name for path in run.iterdir()) == ["log.jsonl", "options.json", "report.html", "samples"]


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"\xff"])
def test_a_folder_of_no_run_is_reported(tmp_path, content):
    if content is not None:
        (tmp_path / "options.json").write_bytes(content)
    with pytest.raises(TrainingError, match=r"options\.json .*Give the folder of a training run\.$"):
        write_run_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_page_that_cannot_be_written_is_reported(tmp_path):
    run = write_run(tmp_path / "run", [])
    (run / "report.html").mkdir()
    with pytest.raises(TrainingError, match=r"report\.html could not be written"):
        write_run_report(run)


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="names there are text")
def test_a_run_whose_name_is_no_text_has_a_page(tmp_path):
    run = write_run(tmp_path / os.fsdecode(b"r\xffn"), [])
    assert "<title>r?n</title>" in write_run_report(run).read_text(encoding="utf-8")


def test_a_log_that_cannot_be_read_is_reported_as_that(tmp_path):
    run = write_run(tmp_path / "run", [])
    (run / "log.jsonl").unlink()
    (run / "log.jsonl").mkdir()
    with pytest.raises(TrainingError, match=r"log\.jsonl cannot be read"):
        write_run_report(run)


def test_options_of_a_run_come_back_from_the_page(tmp_path):
    options = {"stream": {"batch": 16, "empty": {}}, "name": "é"}
    page = page_of(write_run(tmp_path / "run", [], options))
    cells = [word for word in page.words if word.strip()]
    first = cells.index("stream.batch")
    names, values = cells[first::2], cells[first + 1 :: 2]
    assert dict(zip(names, map(json.loads, values), strict=True)) == {
        "stream.batch": 16,
        "stream.empty": {},
        "name": "é",
    }
