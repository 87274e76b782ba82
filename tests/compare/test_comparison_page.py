from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from slmkit.compare.chart import bars
from slmkit.compare.page import COLOURS, page
from slmkit.compare.side_by_side import Comparison, Row
from slmkit.events import Timing, Usage

EVIL = '</div><script>alert(1)</script> <img src=x onerror=alert(1)> & "quoted" \x1b[31m \u202egnirts'
VOID = {"meta", "br", "img", "link"}


@pytest.fixture
def comparison():
    found = Comparison(["tiny", "tiny", "openai:<b>"], ["用三句话介绍一下北京。", EVIL])
    usage, timing = Usage(10, 21), Timing(0.5, 1.5)
    for column, texts in zip(found.columns, (["北京是中国的首都。", EVIL], ["北京很大。", "ok"]), strict=False):
        column.load_s, column.memory_bytes = 1.0, 123_000_000
        column.rows = [Row(i, t, "stop", usage, timing, 0.5, 1.5) for i, t in enumerate(texts)]
    found.columns[2].error, found.columns[2].exit_code = "no key: <set> OPENAI_API_KEY", 2
    return found


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def named(self, tag):
        return [attrs for name, attrs in self.seen if name == tag]


def test_the_page_needs_nothing_else_and_runs_nothing(comparison):
    text = page(comparison)
    tags = Tags(text)
    assert not {"script", "link", "img", "iframe", "object"} & {name for name, _ in tags.seen}
    assert not any(key.startswith("on") or key in ("src", "href") for _, attrs in tags.seen for key in attrs)
    assert "url(" not in text
    assert "@import" not in text
    assert any("default-src 'none'" in attrs.get("content", "") for attrs in tags.named("meta"))


def test_what_models_say_is_text(comparison):
    tags = Tags(page(comparison))
    assert "<script>alert(1)</script>" in tags.text
    assert "no key: <set> OPENAI_API_KEY" in tags.text
    assert "\x1b" not in tags.text
    assert "\u202e" not in tags.text  # which would turn the words after it around


def test_the_page_can_be_read_without_seeing_it(comparison):
    tags = Tags(page(comparison))
    assert tags.named("html")[0]["lang"] == "en"
    assert all(attrs.get("scope") in ("col", "row") for attrs in tags.named("th"))
    assert len(tags.named("caption")) == len(tags.named("table")) == 2
    assert all(attrs["role"] == "img" for attrs in tags.named("svg"))
    assert len(tags.named("desc")) == len(tags.named("svg")) == 2
    assert len(tags.named("h1")) == len(tags.named("main")) == 1
    levels = [int(name[1]) for name, _ in tags.seen if re.fullmatch("h[1-6]", name)]
    assert all(b - a <= 1 for a, b in pairwise(levels))


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", COLOURS)
def test_every_text_has_a_contrast_of_4_5_and_bars_of_3(scheme):
    """WCAG 2.1, 1.4.3 and 1.4.11."""
    colours = COLOURS[scheme]
    for back in ("--page", "--box"):
        for front, least in (("--text", 4.5), ("--quiet", 4.5), ("--error", 4.5), ("--bar", 3.0)):
            high, low = sorted((luminance(colours[back]), luminance(colours[front])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= least, (scheme, front, back)


def test_both_schemes_are_in_the_page(comparison):
    text = page(comparison)
    assert "prefers-color-scheme: dark" in text
    assert all(value in text for scheme in COLOURS.values() for value in scheme.values())


def test_a_page_of_nothing_yet_is_a_page():
    assert "not asked" in Tags(page(Comparison(["tiny"], ["Hi"]))).text


def test_bars_are_as_long_as_their_values_and_are_told_in_words():
    svg = ElementTree.fromstring(bars("Speed", "tokens/s", [("a <b>", 20.0), ("slow", 5.0), ("failed", None)]))
    space = "{http://www.w3.org/2000/svg}"
    first, second, third = (float(rect.get("width")) for rect in svg.iter(f"{space}rect"))
    assert first == pytest.approx(4 * second, abs=0.2)
    assert third == 0
    assert svg.find(f"{space}desc").text == "a <b>: 20 tokens/s; slow: 5 tokens/s; failed: –"
