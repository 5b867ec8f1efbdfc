"""An image's map as text and as a page, also where its names are hostile."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from sampan.cli.image_map import percent, rendered
from sampan.cli.image_tree import plain, rendered as tree, step_of
from sampan.cli.treemap import page

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>'\"&{0}{name}\x1b[31m\u202e\n"


def a_map(name: str = "file", tag: str = "app:1", step: str = "COPY x") -> dict:
    file = {"Path": f"/{name}", "Layer": 1, "Size": 900, "By": 2, "How": "deleted"}
    return {
        "Id": "sha256:" + "1" * 64,
        "RepoTags": [tag],
        "Platform": "linux/amd64",
        "Size": 1000,
        "Files": 2,
        "Wasted": 900,
        "SharedSize": 0,
        "Layers": [
            {
                "Number": 1,
                "DiffID": "a",
                "Size": 900,
                "Files": 1,
                "Wasted": 900,
                "SharedWith": [tag],
                "CreatedBy": step,
            },
            {"Number": 2, "DiffID": "b", "Size": 100, "Files": 1, "Wasted": 0, "SharedWith": [], "CreatedBy": ""},
        ],
        "Directories": [{"Path": f"/{name}", "Size": 900, "Files": 1, "Wasted": 900, "Layers": [1, 2]}],
        "Largest": [file],
        "Waste": [{"Layer": 1, "By": 2, "How": "deleted", "Size": 900, "Files": 1, "Path": f"/{name}"}],
        "WastedFiles": [file],
        "Nodes": [
            {"Name": "/", "Parent": -1, "Size": 1000, "Wasted": 900, "Files": 2, "Layers": [[1, 900], [2, 100]]},
            {"Name": name, "Parent": 0, "Size": 900, "Wasted": 900, "Layers": [[1, 900]], "File": True},
        ],
    }


class Tags(HTMLParser):
    """Collects tags with their attributes, the text outside scripts, and what is in the scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        else:
            self.text += data


def test_hostile_names_are_text_in_the_page() -> None:
    harmless, hostile = Tags(page(a_map())), Tags(page(a_map(EVIL, EVIL, EVIL)))

    assert hostile.tags == harmless.tags
    assert len(hostile.scripts) == 2
    assert hostile.scripts[1] == harmless.scripts[1]
    assert json.loads(hostile.scripts[0])["nodes"][1][0] == plain(EVIL)
    assert plain(EVIL) in hostile.text
    assert not any(attribute.startswith("on") for _, attributes in hostile.tags for attribute in attributes)


def test_the_page_loads_nothing_and_runs_its_own_script_only() -> None:
    text = page(a_map())
    parsed = Tags(text)
    (policy,) = [a["content"] for tag, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(parsed.scripts[1].encode()).digest()).decode()

    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert {tag for tag, _ in parsed.tags}.isdisjoint({"link", "img", "iframe", "base", "object"})
    assert not any({"src", "href"} & set(attributes) for _, attributes in parsed.tags)
    assert not re.search(r"innerHTML|eval\(|document\.write|https?://(?!www\.w3\.org/)", text)


def test_the_tables_are_there_without_a_script() -> None:
    text = Tags(page(a_map())).text

    for part in ("1kB", "900B", "wasted, 90%", "deleted by layer 2", "/file", "COPY x", "app:1"):
        assert part in text


def test_hostile_names_are_text_in_a_terminal() -> None:
    text = rendered(a_map(EVIL, EVIL, EVIL), trunc=False)

    assert set(re.findall(r"[^\x20-\x7e]", text)) == {"\n"}
    assert "\\x1b[31m\\u202e\\n" in text


def test_hostile_steps_are_text_in_a_tree() -> None:
    layer = {"DiffID": "sha256:" + "2" * 64, "Size": 5, "CreatedBy": EVIL, "SharedWith": []}
    image = {"Id": "sha256:" + "1" * 64, "Size": 5, "Layers": [layer], "RepoTags": ["a:1"]}

    assert set(re.findall(r"[^\x20-\x7e]", tree([image], trunc=False))) == {"\n", "└", "─"}


def test_nothing_wasted_is_no_table() -> None:
    found = {**a_map(), "Waste": [], "WastedFiles": []}

    assert "WASTED\n" not in rendered(found, trunc=True)
    assert "Wasted</h2>" not in page(found)


@pytest.mark.parametrize(
    ("part", "whole", "text"), [(0, 0, "0%"), (0, 9, "0%"), (1, 1000, "<1%"), (10, 1000, "1%"), (7, 7, "100%")]
)
def test_a_share_is_a_percentage(part: int, whole: int, text: str) -> None:
    assert percent(part, whole) == text


@pytest.mark.parametrize(
    ("step", "text"),
    [
        ('/bin/sh -c #(nop)  CMD ["sh"]', 'CMD ["sh"]'),
        ("/bin/sh -c apt-get  update \\\n && true", "apt-get update \\ && true"),
        ("RUN /bin/sh -c x # buildkit", "x"),
        ("COPY a /b # buildkit", "COPY a /b"),
        ("", ""),
    ],
)
def test_a_step_is_one_line_without_dockers_shell(step: str, text: str) -> None:
    assert step_of({"CreatedBy": step}) == text
