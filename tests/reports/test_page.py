"""What all pages share: a whole file, a policy that lets only its own script run, words that stay words."""

import re
import sys
from base64 import b64decode, b64encode
from hashlib import sha256

import pytest

from ddnsr_cli.errors import ImageWriteError, TrainingError
from ddnsr_cli.reports import evaluation_page, opinion_page, realism
from ddnsr_cli.reports.page import PageKind, data_uri, page_html, refuse_foreign, words, write_page
from ddnsr_cli.reports.run_page import PAGE as RUN_PAGE

KINDS = (evaluation_page.PAGE, opinion_page.PAGE, realism.PAGE, RUN_PAGE)


@pytest.fixture
def kind(tmp_path, monkeypatch):
    """A kind of page of a package of its own."""
    folder = tmp_path / "own_pages"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "own.html").write_text("<body>\n<h1>$heading</h1>\n<script>$script</script>\n</body>\n")
    (folder / "own.css").write_text("h1 { color: red; }\n")
    (folder / "own.js").write_text('document.title = "$5";\n')
    monkeypatch.syspath_prepend(tmp_path)
    yield PageKind(package="own_pages", body="own.html", styles=("own.css",), script="own.js")
    sys.modules.pop("own_pages", None)


def test_blanks_are_filled_and_the_own_style_comes_last(kind):
    html = page_html(kind, {"heading": "costs $script"}, title="A title")
    assert html.startswith("<!doctype html>\n<html lang=")
    assert html.endswith("</body>\n</html>\n")
    assert "<title>A title</title>" in html
    assert "<h1>costs $script</h1>" in html  # what fills a blank has none itself
    style = html.partition("<style>")[2].partition("</style>")[0]
    assert style.index("--ground") < style.index("h1 { color: red; }")


def test_the_policy_is_that_of_the_script_and_of_no_other(kind):
    html = page_html(kind, {"heading": ""}, title="")
    script = html.partition("<script>")[2].partition("</script>")[0]
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'\">" in html
    without = page_html(PageKind(package="own_pages", body="own.html", styles=()), {"heading": ""}, title="")
    assert "script-src" not in without
    assert "default-src 'none'" in without


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.body)
def test_the_parts_of_a_page_hold_no_shell_of_their_own(kind):
    from importlib.resources import files

    body = (files(kind.package) / kind.body).read_text(encoding="utf-8")
    assert body.startswith("<body")
    assert not re.search(r"doctype|<head>|<meta|<style|--ground", body, re.IGNORECASE)
    for name in kind.styles:
        style = (files(kind.package) / name).read_text(encoding="utf-8")
        assert not re.search(r"--(ground|card|ink|soft|rule|accent):|[^-]color-scheme:", style)


def test_words_stay_words():
    assert words("<a & 'b' \udcff>") == "&lt;a &amp; &#x27;b&#x27; ?&gt;"


def test_a_file_goes_inside():
    head, _, body = data_uri(b"\x89PNG", "image/png").partition(",")
    assert head == "data:image/png;base64"
    assert b64decode(body) == b"\x89PNG"


@pytest.mark.parametrize("error", [ImageWriteError, TrainingError])
def test_a_place_that_takes_nothing_is_reported_as_the_command_tells_things(tmp_path, error):
    (tmp_path / "page.html").mkdir()
    with pytest.raises(error, match=r"page\.html could not be written .*Check the folder and the free space\.$"):
        write_page("text", tmp_path / "page.html", error=error)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_our_pages_are_told_from_others(kind, tmp_path):
    page = tmp_path / "page.html"
    refuse_foreign(page, "")
    ours = page_html(kind, {"heading": ""}, title="")
    earlier = ours.replace('<meta name="generator" content="ddnsr">\n', "")
    assert earlier != ours
    for html in (ours, earlier):
        write_page(html, page)
        refuse_foreign(page, "")
    for html in ("", "<!doctype html><title>ddnsr</title>", " " * 2000 + ours):
        page.write_text(html)
        with pytest.raises(TrainingError, match=r"page\.html exists and is no page of ddnsr\. Move it\.$"):
            refuse_foreign(page, "Move it.", error=TrainingError)
