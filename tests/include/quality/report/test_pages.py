"""The numbers and texts on the pages are those of the tables."""

from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from include.quality.report import format
from include.quality.report.data import QUARANTINED_ROWS, RUNS, Result
from include.warehouse import register
from tests.include.quality.report.filled import (
    DAY,
    FAILED,
    QUARANTINED,
    RUN,
    WARNED,
    finding,
    publish,
    read,
    store,
    validation,
)
from tests.toy import READINGS, TOYS
from tests.toy.batches import PUBLISHED, STAGING

SUITES = (
    validation(finding(), finding("the day has few rows", observed="48", observed_number=48.0), rows=1234),
    validation(
        WARNED,
        FAILED,
        finding("no names", suite="people", type="expect_column_values_to_not_be_null", arguments={}, column="name"),
        suite="people",
        rows=1,
        quarantined=3,
    ),
)


def one(connection: psycopg.Connection[Any], query: str, *values: object) -> Any:
    [(found,)] = connection.execute(query.encode(), values).fetchall()
    return found


def test_the_page_of_a_run_has_what_was_stored(app: psycopg.Connection[Any], tmp_path: Path) -> None:
    ids = store(app, *SUITES, seconds=12.34)
    page = publish(app, ids, tmp_path)

    stored = app.execute(
        "select sum(rows_checked), sum(rows_quarantined), max(seconds), min(batch_id::text), min(started_at) "
        "from quality.validation where id = any(%s)",
        [ids],
    ).fetchone()
    assert stored
    results = app.execute("select count(*) filter (where verdict = 'passed'), count(*) from quality.expectation_result")
    facts = page.facts()
    assert facts["Rows checked"] == f"{stored[0]:,}" == "1,235"
    assert facts["Rows quarantined"] == str(stored[1]) == "3"
    assert facts["Took"] == f"{stored[2]:.1f} s" == "12.3 s"
    assert facts["Batch"] == stored[3]
    assert facts["Started"] == f"{stored[4]:%d %b %Y, %H:%M} UTC" == "22 Sep 2023, 09:00 UTC"
    assert facts["Expectations passed"] == "{} of {}".format(*results.fetchall()[0]) == "3 of 5"
    assert (facts["Day"], facts["Dataset"], facts["DAG"]) == (str(DAY), READINGS.name, RUN.dag_id)
    assert facts["Run"].startswith(RUN.run_id)
    assert page.all("h1")[0].text == READINGS.title
    assert "The gate closed" in page.all("section", "failed")[0].text  # the worst of the suites


def test_the_page_of_a_run_has_every_expectation_failures_first(app: psycopg.Connection[Any], tmp_path: Path) -> None:
    page = publish(app, store(app, *SUITES), tmp_path)

    shown = [
        (each.all("span", "sign")[0].attributes["aria-label"], each.all("bdi")[0].text, each.all("div", "seen")[0].text)
        for each in page.all("li", "result")
    ]
    assert shown == [
        ("failed", "value is not negative", "2 unexpected rows in 24"),
        ("passed with a warning", "values hardly move", "observed 24"),
        ("passed", "the day has rows", "observed 24"),
        ("passed", "the day has few rows", "observed 48"),
        ("passed", "no names", "observed 24"),
    ]
    assert len(shown) == one(app, "select count(*) from quality.expectation_result")
    assert "critical · people · at most 50 · at least 1" in page.section("Did not pass").text
    headings = [each.text for each in page.section("Passed").all("h3")]
    assert headings == [
        "measured: 1,234 rows of readings_staging.measured",
        "people: 1 row of readings_staging.people",
    ]


@pytest.mark.parametrize(
    ("verdict", "suite", "sentence"),
    [
        ("passed", validation(), "The batch went on to be published."),
        ("warned", validation(WARNED), "Only warnings failed"),
        ("quarantined", validation(QUARANTINED, quarantined=1), "1 of 24 rows was kept out of the batch"),
        ("failed", validation(FAILED, WARNED), "The gate closed: nothing of this batch is published"),
    ],
)
def test_the_page_of_a_run_says_its_verdict(
    app: psycopg.Connection[Any], tmp_path: Path, verdict: str, suite: Any, sentence: str
) -> None:
    page = publish(app, store(app, suite), tmp_path)

    [section] = page.all("section", verdict)
    assert sentence in section.text
    assert section.all("h2")[0].text == format.STATES[verdict][1].capitalize()


COUNTING = "unexpected_rows_expectation"


@pytest.mark.parametrize(
    ("changes", "wanted", "observed"),
    [
        ({}, ["at least 1", "at most 50"], "observed 24"),
        ({"arguments": {"min_value": 0, "strict_min": True, "max_value": None}}, ["more than 0"], "observed 24"),
        ({"arguments": {"max_value": 0.5, "strict_max": True}}, ["less than 0.5"], "observed 24"),
        ({"arguments": {"mostly": 0.9, "unexpected_rows_query": "q"}}, ["for a share of at least 0.9"], "observed 24"),
        ({"arguments": {"value_set": ["A", 2]}}, ["one of A, 2"], "observed 24"),
        ({"arguments": {"value_set": ["A"]}, "type": "expect_to_contain_set"}, ["contains A"], "observed 24"),
        ({"arguments": {"column_list": ["a", "b"]}}, ["columns a, b"], "observed 24"),
        ({"arguments": {"regex": "^a$", "b": {"c": [1]}}}, ["matches ^a$", 'b: {"c": [1]}'], "observed 24"),
        ({"arguments": {}, "unexpected": 0, "observed_number": 0.0, "checked": 9}, [], "no unexpected rows in 9"),
        ({"arguments": {}, "unexpected": 1, "observed_number": None, "checked": 9}, [], "1 unexpected row in 9"),
        ({"arguments": {}, "type": COUNTING, "observed_number": 3.0}, [], "3 unexpected rows"),
        ({"arguments": {}, "observed": "None", "observed_number": None}, [], ""),
        ({"arguments": {}, "type": COUNTING, "observed": "an error: oh", "observed_number": None}, [],
         "observed an error: oh"),
    ],
)  # fmt: skip
def test_arguments_and_observations_are_shown_as_text(
    changes: dict[str, Any], wanted: list[str], observed: str
) -> None:
    values = {key: value for key, value in asdict(finding(**changes)).items() if key in Result.__annotations__}
    result = Result(validation_id=1, column_name=None, **values)

    assert format.wanted(result) == wanted
    assert format.observed(result) == observed


def test_bad_rows_are_a_table_with_its_columns_in_order(app: psycopg.Connection[Any], tmp_path: Path) -> None:
    rows = [
        {"batch_id": "b", "value": 0.0, "sensor": "north", "day": None, "zebra": [1], "loaded_at": "now"},
        {"sensor": "south", "value": 1234567.125, "more": "1"},
    ]
    bad = finding(verdict="failed", sample=rows)
    names = finding("no names", verdict="failed", column="sensor", sample=[None, "", 3])
    page = publish(app, store(app, validation(bad, names)), tmp_path)

    table, values = page.all("table")
    assert [each.text for each in table.all("th")] == ["day", "sensor", "value", "more", "zebra"]
    assert table.rows() == [["empty", "north", "0", "empty", "[1]"], ["empty", "south", "1234567.125", "1", "empty"]]
    assert [each.text for each in values.all("th")] == ["sensor"]
    assert values.rows() == [["empty"], [""], ["3"]]


def test_rows_in_quarantine_are_shown_with_the_rules_that_they_broke(
    app: psycopg.Connection[Any], tmp_path: Path
) -> None:
    batch_id, kept_out = uuid4(), QUARANTINED_ROWS + 50
    insert = (
        "insert into quality.quarantine (checkpoint, staging_table, day, batch_id, dag_id, run_id, row_data, rules) "
    )
    app.execute(
        f"{insert} select 'readings', %s, %s, %s, 'd', 'r', jsonb_build_object('sensor', n, 'value', n * 2), %s "
        "from generate_series(1, %s) as n",
        [STAGING, DAY, batch_id, ["value is at most 1000", "value is a number"], kept_out],
    )
    app.execute(f"{insert} values ('readings', %s, %s, %s, 'd', 'r', %s, '{{}}')", [STAGING, DAY, uuid4(), Jsonb({})])
    page = publish(app, store(app, validation(QUARANTINED, quarantined=kept_out), batch_id=batch_id), tmp_path)

    shown = page.section("In quarantine")
    assert f"{kept_out} rows of this batch; the first {QUARANTINED_ROWS} are shown, 50 more are in" in shown.text
    stored = app.execute(
        "select row_data ->> 'sensor', row_data ->> 'value', array_to_string(rules, '') from quality.quarantine "
        "where batch_id = %s order by id limit %s",
        [batch_id, QUARANTINED_ROWS],
    ).fetchall()
    assert shown.rows() == [list(row) for row in stored]
    assert shown.all("h3")[0].text == STAGING


def test_the_page_of_a_dataset_has_the_trend_of_each_expectation(app: psycopg.Connection[Any], tmp_path: Path) -> None:
    for number in range(5):
        value = finding(
            "value is not negative",
            verdict="failed" if number in (1, 3) else "passed",
            type="unexpected_rows_expectation",
            observed_number=float(number),
        )
        rows = finding(observed_number=10.5 * number, arguments={"min_value": 1} if number else {})
        gone = [finding("removed since")] if number < 3 else []
        late = [finding("added at the third run", observed="None", observed_number=None)] if number > 2 else []
        ids = store(app, validation(*gone, rows, value, *late), day=DAY - timedelta(days=4 - number))
    publish(app, ids, tmp_path)

    page = read(tmp_path / READINGS.name / "index.html")
    shown = [
        (each.all("bdi")[0].text, each.all("p")[0].text, each.all("figcaption")[0].text)
        for each in page.all("li", "trend")
    ]
    assert shown == [
        ("value is not negative", "critical · passed 3 of 5 (60 %)", "0 to 4 unexpected rows"),
        ("the day has rows", "critical · passed 5 of 5 (100 %)", "observed 0 to 42"),
        ("added at the third run", "critical · passed 2 of 2 (100 %)", "passed or failed"),
    ]
    passed = "select count(*) from quality.expectation_result where expectation = %s and verdict = 'passed'"
    assert [one(app, passed, expectation) for expectation, _, _ in shown] == [3, 5, 2]
    values_trend, rows_trend, _ = page.all("li", "trend")
    assert [each.text for each in values_trend.all("g", "dots")] == [
        "Mon 18 Sep 2023: 1 unexpected row",
        "Wed 20 Sep 2023: 3 unexpected rows",
    ]
    [line] = [each for each in rows_trend.all("g", "serie-0") if each.all("path")]
    assert line.all("path")[0].attributes["d"].count(" ") == 2 * 5 - 1  # type: ignore[union-attr]
    [bound] = [each for each in rows_trend.all("g", "serie-2") if each.all("path")]
    assert bound.all("path")[0].attributes["d"].count(" ") == 2 * 4 - 1  # type: ignore[union-attr]


def test_two_expectations_with_the_same_text_have_trends_of_their_own(
    app: psycopg.Connection[Any], tmp_path: Path
) -> None:
    for verdict in ("passed", "failed"):
        ids = store(app, validation(finding(), finding(verdict=verdict)))
    publish(app, ids, tmp_path)

    shown = [each.all("p")[0].text for each in read(tmp_path / READINGS.name / "index.html").all("li", "trend")]
    assert shown == ["critical · passed 1 of 2 (50 %)", "critical · passed 2 of 2 (100 %)"]


def test_the_page_of_a_dataset_lists_its_last_runs(app: psycopg.Connection[Any], tmp_path: Path) -> None:
    suites = (validation(rows=1000), validation(suite="people", quarantined=2))
    for number in range(RUNS + 3):
        at = datetime(2023, 9, 21, tzinfo=UTC) + timedelta(minutes=number)
        ids = store(app, *suites, seconds=number / 4, started_at=at)
    publish(app, ids, tmp_path)

    page = read(tmp_path / READINGS.name / "index.html")
    stored = app.execute(
        "select min(id), sum(rows_checked), sum(rows_quarantined), max(seconds) from quality.validation "
        "group by started_at, batch_id order by started_at desc limit %s",
        [RUNS],
    ).fetchall()
    runs = page.section("Runs")
    assert [row[2:5] for row in runs.rows()] == [[f"{row[1]:,}", str(row[2]), f"{row[3]:.1f}"] for row in stored]
    assert [each.attributes["href"] for each in runs.all("a")] == [
        f"../readings/2023-09-21/{row[0]}.html" for row in stored
    ]
    rows, seconds = page.section("Rows checked"), page.section("Seconds")
    assert rows.text.startswith("Rows checked 1,024 in the last run")
    assert seconds.text.startswith(f"Seconds {stored[0][3]:.1f} s of checking in the last run")
    assert [each.text for each in seconds.all("g", "bar")] == [
        f"Thu 21 Sep 2023: {format.number(row[3])} seconds" for row in reversed(stored)
    ]
    assert len(rows.all("g", "bar")) == RUNS
    assert f"The last {RUNS} runs: ◐{RUNS} quarantined" in page.all("header")[0].text


def test_the_home_page_has_every_dataset_and_what_readers_see(app: psycopg.Connection[Any], tmp_path: Path) -> None:
    for day in (DAY, DAY - timedelta(days=2), DAY - timedelta(days=1)):
        register.register(app, PUBLISHED, "day", day, uuid4(), RUN)
    store(app, checkpoint="my <own>", day=date(2023, 9, 20))
    publish(app, store(app, validation(WARNED)), tmp_path)

    home = read(tmp_path / "index.html")
    assert [each.all("h2")[0].text for each in home.all("article")] == [*(each.title for each in TOYS), "my <own>"]
    readings, rollups, own = home.all("article")
    [(day, at)] = app.execute(
        "select day, published_at from warehouse.publication where is_current order by day desc limit 1"
    ).fetchall()
    assert f"Readers see Thu 21 Sep 2023, since {format.moment(at)}" in readings.text
    assert day == DAY
    assert readings.all("a", "pill")[0].text == "!passed with a warning"
    assert "is on its way" not in readings.text  # published after that run began
    assert "No batch was validated yet." in rollups.text
    assert "Nothing is published yet" in rollups.text
    assert "Readers" not in own.text


def test_the_home_page_says_what_is_about_to_be_published(app: psycopg.Connection[Any], tmp_path: Path) -> None:
    at = datetime.now(UTC) + timedelta(minutes=1)
    register.register(app, PUBLISHED, "day", DAY - timedelta(days=1), uuid4(), RUN)
    publish(app, store(app, started_at=at), tmp_path)
    assert "; Thu 21 Sep 2023 is on its way" in read(tmp_path / "index.html").section(READINGS.title).text

    publish(app, store(app, validation(FAILED), started_at=at + timedelta(minutes=1)), tmp_path)
    assert "is on its way" not in read(tmp_path / "index.html").text


def test_pages_link_to_each_other_and_to_airflow(
    app: psycopg.Connection[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/here/")
    ids = store(app, run=register.Run("a dag", "manual__2023-09-22T09:00:00+00:00/?"), checkpoint="my data/v1.0")
    publish(app, ids, tmp_path, "my data/v1.0")

    pages = sorted(tmp_path.rglob("*.html"))
    folder = "my=20data=2Fv1=2E0"
    assert [page.relative_to(tmp_path).as_posix() for page in pages] == [
        "index.html", f"{folder}/2023-09-21/{ids[0]}.html", f"{folder}/index.html",
    ]  # fmt: skip
    airflow = []
    for page in pages:
        for link in read(page).all("a"):
            href = link.attributes["href"]
            assert href
            if href.startswith("https:"):
                airflow.append(href)
            elif href not in {f"{each.name}/index.html" for each in TOYS}:  # which have no pages yet
                assert (page.parent / href).exists(), href
    assert airflow == ["https://airflow.example/here/dags/a%20dag/runs/manual__2023-09-22T09%3A00%3A00%2B00%3A00%2F%3F"]


def test_without_an_address_of_airflow_the_link_stays_on_its_own_host(
    app: psycopg.Connection[Any], tmp_path: Path
) -> None:
    page = publish(app, store(app), tmp_path)

    assert page.facts()["Run"].endswith("open in Airflow")
    [link] = page.all("section", "verdict")[0].all("a")
    assert link.attributes["href"] == (f"/dags/{RUN.dag_id}/runs/scheduled__2023-09-22T09%3A00%3A00%2B00%3A00")
