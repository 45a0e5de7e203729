"""Pictures that parts draw: they are in the report, and only contain shapes and text."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from dovetail.main import run
from dovetail.record.report.page import write_report
from dovetail.record.report.pictures import FOLDER, PictureError, read_pictures, write_picture
from run_folders import write_run
from small_runs import small

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9" aria-label="dots">{}</svg>'
DOT = '<circle cx="3" cy="3" r="2" style="fill: var(--train)"><title>a &lt;dot&gt;</title></circle>'


class Dots:
    """Draws a picture when the run ends."""

    def dovetail_run_end(self, run):
        """Draw."""
        run.store.add_picture("dots", SVG.format(DOT))


def test_a_part_can_draw_a_picture_for_the_report(tmp_path):
    """A picture from a callback at the end of a run is a file in the run's folder, and is in the report."""
    config = small(tmp_path, callbacks={"dots": Dots()}, report={"enabled": True})
    assert run(config).status == "completed"
    (folder,) = (path for path in tmp_path.glob("*/*") if path.is_dir())
    page = (folder / "report.html").read_text(encoding="utf-8")

    assert (folder / FOLDER / "dots.svg").read_text(encoding="utf-8") == SVG.format(DOT)
    assert "<h2>Pictures</h2>" in page
    assert SVG.format(DOT) in page
    ET.fromstring(page.removeprefix("<!DOCTYPE html>"))  # noqa: S314 (we wrote it)


def test_pictures_are_in_the_order_of_their_names(tmp_path):
    """The order of drawing does not matter; a report without plots has no pictures."""
    folder = write_run(tmp_path)
    for name in ("b-2", "a_1"):
        write_picture(folder, name, SVG.format(f"<text>{name}</text>"))
    page = write_report(folder).read_text(encoding="utf-8")

    assert page.index("<text>a_1</text>") < page.index("<text>b-2</text>")
    assert "Pictures" not in write_report(folder, plots=False).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "content, message",
    [
        ("<script>alert(1)</script>", "<script>"),
        ('<image href="data:,"/>', "<image>"),
        ("<style>*{display:none}</style>", "<style>"),
        ("<foreignObject/>", "<foreignObject>"),
        ('<a xmlns:x="http://www.w3.org/1999/xlink" x:href="//x"/>', "<a>"),
        ('<rect onclick="alert(1)"/>', "onclick"),
        ('<rect fill="url(http://x/y)"/>', "outside of it"),
        ('<rect style="fill: URL(//x)"/>', "outside of it"),
        ('<g xmlns:x="http://www.w3.org/1999/xlink" x:href="#y"/>', "outside of it"),
        ("<!-- hidden -->", "declaration or a comment"),
        ("<g>", "well-formed"),
        ('<rect xmlns="http://www.w3.org/1999/xhtml"/>', "xhtml"),
        (f'<path d="{"M0 0" * 600_000}"/>', "draw less"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_an_unsafe_picture_is_refused(tmp_path, content, message):
    """Anything but shapes and text is an error when it is drawn, and skipped in a report."""
    with pytest.raises(PictureError, match=message):
        write_picture(tmp_path, "bad", SVG.format(content))
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "bad.svg").write_text(SVG.format(content), encoding="utf-8")

    assert list(read_pictures(tmp_path)) == []


@pytest.mark.parametrize("svg", ["", "<html/>", '<!DOCTYPE svg [<!ENTITY a "b">]><svg/>', "<svg/>"])
def test_other_documents_are_refused(tmp_path, svg):
    """Only an SVG without entity declarations is a picture."""
    with pytest.raises(PictureError):
        write_picture(tmp_path, "bad", svg)


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 61, "é"])
def test_a_name_must_be_a_plain_word(tmp_path, name):
    """A name cannot be a path."""
    with pytest.raises(PictureError, match="characters"):
        write_picture(tmp_path, name, SVG.format(DOT))


def test_references_within_a_picture_are_allowed(tmp_path):
    """A shape may be filled with a gradient of the same picture."""
    content = '<defs><linearGradient id="g"><stop offset="0"/></linearGradient></defs><rect fill="url(#g)"/>'

    assert write_picture(tmp_path, "fine", SVG.format(content)).exists()
