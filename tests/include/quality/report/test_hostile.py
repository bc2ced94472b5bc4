"""Whatever the tables hold is shown as text, and the pages request nothing."""

import re
from math import inf, nan
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from include.quality.report import charts, format, pages
from include.warehouse.register import Run
from tests.include.quality.report.filled import DAY, Node, finding, parse, publish, store, validation

HOSTILE = {
    "a script": "<script>document.title = 'run'</script><img src=x onerror=\"document.title = 'run'\">",
    "quotes": "\"' onmouseover='x' title=\"",
    "entities": "&amp; &lt;b&gt; <b>",
    "closing": "</title></style></script></svg></details></bdi></table>-->",
    "emoji": "🦆👩\N{ZERO WIDTH JOINER}👧🇩🇪",
    "right to left": "שלום \N{RIGHT-TO-LEFT OVERRIDE}txt.exe",
    "a template": "{{ 7 * 7 }}{% raw %}",
    "one long word": "x" * 10_000,
    "many words": "long " * 1_999 + "long",
    "control characters": "a\x07\x1b[31m\x7f",
    "a path": "../../etc/passwd",
    "an address": "https://elsewhere.example/x.js //elsewhere.example",
}
# All that the templates and charts are made of.
TAGS = re.findall(
    "[a-z0-9]+",
    """
    html head meta link title style body nav a b header h1 h2 h3 p main section article div span ul li dl dt dd figure
    figcaption table thead tbody tr th td details summary bdi pre code footer br svg g path rect circle
    """,
)


def site(connection: psycopg.Connection[Any], text: str, root: Path) -> list[Node]:
    """Write the report of two runs with a text in every place; returns the four pages, those of the runs first."""
    name = text[:1000]  # names are in an index, which takes no longer ones; Airflow's have at most 250 characters
    run = Run(text[:250], text[:250])
    values = {"other": [text], text: {"a": text}, "unexpected_rows_query": text, "regex": text, "min_value": text}
    bad = [
        finding(
            text, suite=name, type=text, column=text, arguments=values, severity=severity, verdict=verdict,
            observed=text, observed_number=None, sample=[{text: text, "nested": {text: [text]}}, text, None],
        )
        for severity, verdict in (("critical", "failed"), ("info", "passed"), ("warning", "quarantined"))
    ]  # fmt: skip
    for _ in range(2):
        batch_id = uuid4()
        connection.execute(
            "insert into quality.quarantine "
            "(checkpoint, staging_table, day, batch_id, dag_id, run_id, row_data, rules) "
            "values (%s, %s, %s, %s, 'd', 'r', %s, %s)",
            [name, name, DAY, batch_id, Jsonb({text: text, "none": None}), [text]],
        )
        suites = [validation(*bad, suite=name), validation(*bad, suite=name)]
        ids = store(connection, *suites, checkpoint=name, run=run, batch_id=batch_id)
        publish(connection, ids, root, name)
    found = [*root.glob("*/*/*.html"), *root.glob("*/index.html"), root / "index.html"]
    assert len(found) == len([*root.rglob("*.html")]) == 4
    return [parse(page.read_text()) for page in found]


def check(page: Node) -> None:
    """Check that a page consists of our elements, and requests nothing."""
    assert {node.tag for node in page} <= {"", *TAGS}
    for node in page:
        assert not [
            name for name in node.attributes if name.startswith("on") or name in ("src", "srcset", "xlink:href")
        ]
        href = node.attributes.get("href") or ""
        assert not re.match(r"[a-z]+:|//", href) or (node.tag, href) == ("link", "data:,")
    [policy] = [node for node in page.all("meta") if node.attributes.get("http-equiv") == "Content-Security-Policy"]
    assert (policy.attributes["content"] or "").startswith("default-src 'none';")
    [style] = page.all("style")
    assert "://" not in style.raw
    assert "url(" not in style.raw
    assert "@import" not in style.raw


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_any_text_is_shown_as_text(app: psycopg.Connection[Any], tmp_path: Path, text: str) -> None:
    found = site(app, text, tmp_path)

    for page in found:
        check(page)
    shown = "".join(text.split())
    for page, places in zip(found, (20, 20, 4, 0), strict=True):
        assert "".join(page.raw.split()).count(shown) >= places
        assert shown[:40] in "".join(page.all("body")[0].raw.split())
    assert text in [node.raw for node in found[0] if node.tag in ("bdi", "pre") or "full" in node.classes]


@pytest.mark.parametrize("text", [HOSTILE["one long word"], HOSTILE["many words"]], ids=["a word", "words"])
def test_long_text_is_cut_with_all_of_it_in_details(app: psycopg.Connection[Any], tmp_path: Path, text: str) -> None:
    run = site(app, text, tmp_path)[0]

    for node in run:
        if node.tag == "bdi":
            assert len(node.raw) <= 161
    longs = run.all("details", "long")
    assert longs
    assert all(len(each.all("summary")[0].raw) <= 161 for each in longs)
    assert len(text) in {len(each.all("div", "full")[0].raw) for each in longs}


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        *((nan, "nan"), (inf, "inf"), (-inf, "-inf"), (True, "true"), (None, "empty"), (0.1 + 0.2, f"{0.1 + 0.2}")),
        *((1e308, f"1{308 * '0'}"), (-1e308, f"-1{308 * '0'}"), (1e17, f"1{17 * '0'}"), (10**400, f"1{400 * '0'}")),
        (-0.0, "0"),
    ],
    ids=lambda each: str(each)[:9],
)
def test_any_number_is_shown(app: psycopg.Connection[Any], tmp_path: Path, number: Any, shown: str) -> None:
    column = number if isinstance(number, float) else None
    odd = finding(
        observed_number=column,
        observed=str(number),
        arguments={"min_value": number, "max_value": 1e308},
        verdict="failed",
        sample=[{"n": number}, {"n": number}],
    )
    for _ in range(2):
        ids = store(app, validation(odd, rows=2**62), seconds=column or 0.0)
        store(app, validation(finding(observed_number=1e17 + 16)))
    page = publish(app, ids, tmp_path)

    cells = page.all("table")[0].all("td")
    assert [(each.all("div", "full") or [each])[0].text for each in cells] == [shown] * 2
    for path in tmp_path.rglob("*.html"):
        check(parse(path.read_text()))
        for each in re.findall(r' (?:d|x|y|cx|cy|r|width|height)="([^"]*)"', path.read_text()):
            assert "nan" not in each
            assert "inf" not in each


def test_a_chart_is_plain_and_its_texts_are_escaped() -> None:
    text = "<script>\"'&"
    marks = [("failed", text), None, ("warned", text)]
    for svg in (
        charts.line([1.0, None, 3.0], [[0.0, 0.0, 0.0]], marks, text, from_zero=False),
        charts.bars([1.0, None, 3.0], marks, text),
    ):
        [drawing] = parse(svg).children
        assert isinstance(drawing, Node)
        assert drawing.attributes["aria-label"] == text
        assert [each.raw for each in drawing.all("title") if each.raw] == [text, text]
        assert {each.tag for each in drawing} <= {"svg", "g", "path", "rect", "circle", "title"}
        assert re.findall("https?:[^\"' ]*", svg) == ["http://www.w3.org/2000/svg"]
        assert "<!--" not in svg


def test_a_name_becomes_one_folder() -> None:
    names = ["readings", "", ".", "..", "../x", "a/b", "a b", "a%20b", "a=20b", "index.html", "A" * 300, "A" * 301, "ü"]
    folders = [pages.folder(name) for name in names]

    assert folders[0] == "readings"
    assert len(set(folders)) == len(names)
    assert all(re.fullmatch(r"[\w=~-]{1,120}", each, re.ASCII) for each in folders)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (1234567, "1,234,567"), (2.5, "2.5"), (1.00001, "1"), (0.0001234, "0.0001234"), (1e20, "1e+20"),
     (nan, "nan"), (-0.5, "-0.5"), (98.3, "98.3")],
)  # fmt: skip
def test_numbers_are_readable(value: float, shown: str) -> None:
    assert format.number(value) == shown
