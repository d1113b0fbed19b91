"""The report: one file, nothing fetched, every text escaped."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from selfsup.studies.report import Page

EVIL = '<script>alert("1")</script> & <img src=x onerror=alert(2)>'
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def test_every_text_is_escaped(tmp_path: Path) -> None:
    picture = tmp_path / 'a" onload="x.png'
    picture.write_bytes(PIXEL)
    page = Page(EVIL, EVIL)
    page.heading(EVIL)
    page.text(EVIL)
    page.items([EVIL])
    page.code(EVIL)
    page.table([{EVIL: EVIL, "number": 1.5}])
    page.grid(EVIL, [EVIL, "b"], [[1, 2], [3, 4]])
    page.image(picture, EVIL)
    html = page.html()
    assert "<script" not in html
    assert html.count("<img") == 1
    assert "onerror=alert(2)&gt;" in html
    assert 'onload="x' not in html


def test_nothing_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(PIXEL)
    page = Page("title")
    page.image(tmp_path / "x.png", "a pixel")
    page.write(tmp_path / "deep" / "report.html")
    (tmp_path / "x.png").unlink()
    html = (tmp_path / "deep" / "report.html").read_text(encoding="utf-8")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["report.html"]
    assert_self_contained(html)
    (data,) = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    assert base64.b64decode(data) == PIXEL


def assert_self_contained(html: str) -> None:
    sources = re.findall(r'(?:src|href)\s*=\s*["\']?([^"\'>]*)', html)
    assert all(s.startswith("data:image/png;base64,") for s in sources)
    assert not re.search(r"https?://|@import|url\(|<link|<script|<iframe", html)


def test_tables_put_numbers_right_and_say_what_is_missing() -> None:
    page = Page("t")
    page.table([{"name": "a", "count": 1200}, {"name": "b"}])
    html = page.html()
    assert '<td class="number">1,200</td>' in html
    assert '<td class="number">–</td>' in html
    assert "<td>a</td>" in html


def test_lone_surrogates_do_not_stop_the_report(tmp_path: Path) -> None:
    page = Page("t")
    page.text("a \ud800 b")
    page.write(tmp_path / "report.html")
    assert "a ? b" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_right_to_left_texts_are_laid_out_as_they_begin() -> None:
    page = Page("t")
    page.table([{"name": "שלום, world!", "count": 1}])
    page.text("قال: ok")
    page.text("ok")
    html = page.html()
    assert '<td dir="auto">שלום, world!</td>' in html
    assert '<p dir="auto">قال: ok</p>' in html
    assert "<p>ok</p>" in html
