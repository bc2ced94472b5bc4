"""The numbers and words on the pages are those of the tables."""

from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from include.warehouse.publish import MARKET_DATA
from psycopg.types.json import Jsonb

from include.quality.report import words
from include.quality.report.data import QUARANTINED_ROWS, Result
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

SUITES = (
    validation(finding(), finding("the day has few rows", observed="48", observed_number=48.0), rows=1234),
    validation(
        WARNED,
        FAILED,
        finding("no names", suite="people", type="expect_column_values_to_not_be_null", arguments={}, column="name"),
        suite="people",
        rows=7,
        quarantined=3,
    ),
)


def one(connection: psycopg.Connection[Any], query: str, *values: object) -> Any:
    [(found,)] = connection.execute(query.encode(), values).fetchall()
    return found


def test_a_run_shows_what_was_stored_of_it(app: psycopg.Connection[Any], tmp_path: Path) -> None:
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
    assert facts["Rows checked"] == f"{stored[0]:,}" == "1,241"
    assert facts["Rows quarantined"] == str(stored[1]) == "3"
    assert facts["Took"] == f"{stored[2]:.1f} s" == "12.3 s"
    assert facts["Batch"] == stored[3]
    assert facts["Started"] == f"{stored[4]:%d %b %Y, %H:%M} UTC" == "22 Sep 2023, 09:00 UTC"
    assert facts["Expectations met"] == "{} of {}".format(*results.fetchall()[0]) == "3 of 5"
    assert (facts["Day"], facts["Dataset"], facts["DAG"]) == (str(DAY), "market", RUN.dag_id)
    assert facts["Run"].startswith(RUN.run_id)
    assert page.all("h1")[0].text == "Market data"
    assert "The gate closed" in page.all("section", "failed")[0].text  # the worst of the suites


def test_a_run_shows_every_expectation_failures_first(app: psycopg.Connection[Any], tmp_path: Path) -> None:
    page = publish(app, store(app, *SUITES), tmp_path)

    shown = [
        (each.all("span", "sign")[0].attributes["aria-label"], each.all("bdi")[0].text, each.all("div", "seen")[0].text)
        for each in page.all("li", "result")
    ]
    assert shown == [
        ("failed", "prices are positive", "2 unexpected rows in 24"),
        ("passed with a warning", "prices hardly move", "observed 24"),
        ("passed", "the day has rows", "observed 24"),
        ("passed", "the day has few rows", "observed 48"),
        ("passed", "no names", "observed 24"),
    ]
    assert len(shown) == one(app, "select count(*) from quality.expectation_result")
    assert "critical · people · at most 50 · at least 1" in page.section("Not met").text
    headings = [each.text for each in page.section("Met").all("h3")]
    assert headings == ["market: 1,234 rows of market_staging.market", "people: 7 rows of market_staging.people"]


@pytest.mark.parametrize(
    ("verdict", "suite", "said"),
    [
        ("passed", validation(), "The batch went on to be published."),
        ("warned", validation(WARNED), "a warning only"),
        ("quarantined", validation(QUARANTINED, quarantined=1), "1 of 24 rows was kept out of the batch"),
        ("failed", validation(FAILED, WARNED), "The gate closed: nothing of this batch is published"),
    ],
)
def test_a_run_says_its_verdict(
    app: psycopg.Connection[Any], tmp_path: Path, verdict: str, suite: Any, said: str
) -> None:
    page = publish(app, store(app, suite), tmp_path)

    [shown] = page.all("section", verdict)
    assert said in shown.text
    assert shown.all("h2")[0].text == words.STATES[verdict][1].capitalize()


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
def test_arguments_and_observations_are_in_words(changes: dict[str, Any], wanted: list[str], observed: str) -> None:
    values = {key: value for key, value in asdict(finding(**changes)).items() if key in Result.__annotations__}
    result = Result(validation_id=1, column_name=None, **values)

    assert words.wanted(result) == wanted
    assert words.observed(result) == observed


def test_bad_rows_are_a_table_with_its_columns_in_order(app: psycopg.Connection[Any], tmp_path: Path) -> None:
    rows = [
        {"batch_id": "b", "close_price": 0.0, "ticker": "PEP", "volume": None, "zebra": [1], "loaded_at": "now"},
        {"ticker": "KO", "close_price": 1234567.125, "more": "1"},
    ]
    bad = finding(verdict="failed", sample=rows)
    names = finding("no names", verdict="failed", column="ticker", sample=[None, "", 3])
    suite = validation(bad, names, suite="transformed_market_data")
    page = publish(app, store(app, suite), tmp_path)

    table, values = page.all("table")
    assert [each.text for each in table.all("th")] == ["ticker", "close_price", "volume", "more", "zebra"]
    assert table.rows() == [["PEP", "0", "empty", "empty", "[1]"], ["KO", "1234567.125", "empty", "1", "empty"]]
    assert [each.text for each in values.all("th")] == ["ticker"]
    assert values.rows() == [["empty"], [""], ["3"]]


def test_rows_in_quarantine_are_shown_with_what_they_broke(app: psycopg.Connection[Any], tmp_path: Path) -> None:
    batch_id, kept_out = uuid4(), QUARANTINED_ROWS + 50
    asset = "market_staging.transformed_market_data"
    insert = "insert into quality.quarantine (checkpoint, asset, day, batch_id, dag_id, run_id, row_data, rules) "
    app.execute(
        f"{insert} select 'market', %s, %s, %s, 'd', 'r', jsonb_build_object('ticker', n, 'volume', n * 2), %s "
        "from generate_series(1, %s) as n",
        [asset, DAY, batch_id, ["high is the highest", "low is the lowest"], kept_out],
    )
    app.execute(f"{insert} values ('market', %s, %s, %s, 'd', 'r', %s, '{{}}')", [asset, DAY, uuid4(), Jsonb({})])
    page = publish(app, store(app, validation(QUARANTINED, quarantined=kept_out), batch_id=batch_id), tmp_path)

    shown = page.section("In quarantine")
    assert "250 rows of this batch; the first 200 are shown, 50 more are in quality.quarantine" in shown.text
    stored = app.execute(
        "select row_data ->> 'ticker', row_data ->> 'volume', array_to_string(rules, '') from quality.quarantine "
        "where batch_id = %s order by id limit %s",
        [batch_id, QUARANTINED_ROWS],
    ).fetchall()
    assert shown.rows() == [list(row) for row in stored]
    assert shown.all("h3")[0].text == asset


def test_a_dataset_shows_how_each_expectation_went(app: psycopg.Connection[Any], tmp_path: Path) -> None:
    for number in range(5):
        price = finding(
            "prices are positive",
            verdict="failed" if number in (1, 3) else "passed",
            type="unexpected_rows_expectation",
            observed_number=float(number),
        )
        rows = finding(observed_number=10.5 * number, arguments={"min_value": 1} if number else {})
        gone = [finding("nobody asks any more")] if number < 3 else []
        late = [finding("asked since the third", observed="None", observed_number=None)] if number > 2 else []
        ids = store(app, validation(*gone, rows, price, *late), day=DAY - timedelta(days=4 - number))
    publish(app, ids, tmp_path)

    page = read(tmp_path / "market" / "index.html")
    shown = [
        (each.all("bdi")[0].text, each.all("p")[0].text, each.all("figcaption")[0].text)
        for each in page.all("li", "trend")
    ]
    assert shown == [
        ("prices are positive", "critical · met 3 of 5 (60 %)", "0 to 4 unexpected rows"),
        ("the day has rows", "critical · met 5 of 5 (100 %)", "observed 0 to 42"),
        ("asked since the third", "critical · met 2 of 2 (100 %)", "met or not met"),
    ]
    met = "select count(*) from quality.expectation_result where expectation = %s and verdict = 'passed'"
    assert [one(app, met, expectation) for expectation, _, _ in shown] == [3, 5, 2]
    prices, rows_shown, _ = page.all("li", "trend")
    assert [each.text for each in prices.all("g", "dots")] == [
        "Mon 18 Sep 2023: 1 unexpected row",
        "Wed 20 Sep 2023: 3 unexpected rows",
    ]
    [line] = [each for each in rows_shown.all("g", "serie-0") if each.all("path")]
    assert line.all("path")[0].attributes["d"].count(" ") == 2 * 5 - 1  # type: ignore[union-attr]
    [bound] = [each for each in rows_shown.all("g", "serie-2") if each.all("path")]
    assert bound.all("path")[0].attributes["d"].count(" ") == 2 * 4 - 1  # type: ignore[union-attr]


def test_expectations_that_are_alike_are_told_apart(app: psycopg.Connection[Any], tmp_path: Path) -> None:
    for verdict in ("passed", "failed"):
        ids = store(app, validation(finding(), finding(verdict=verdict)))
    publish(app, ids, tmp_path)

    shown = [each.all("p")[0].text for each in read(tmp_path / "market" / "index.html").all("li", "trend")]
    assert shown == ["critical · met 1 of 2 (50 %)", "critical · met 2 of 2 (100 %)"]


def test_a_dataset_lists_its_last_sixty_runs(app: psycopg.Connection[Any], tmp_path: Path) -> None:
    suites = (validation(rows=1000), validation(suite="people", quarantined=2))
    for number in range(63):
        at = datetime(2023, 9, 21, tzinfo=UTC) + timedelta(minutes=number)
        ids = store(app, *suites, seconds=number / 4, started_at=at)
    publish(app, ids, tmp_path)

    page = read(tmp_path / "market" / "index.html")
    stored = app.execute(
        "select min(id), sum(rows_checked), sum(rows_quarantined), max(seconds) from quality.validation "
        "group by started_at, batch_id order by started_at desc limit 60"
    ).fetchall()
    runs = page.section("Runs")
    assert [row[2:5] for row in runs.rows()] == [[f"{row[1]:,}", str(row[2]), f"{row[3]:.1f}"] for row in stored]
    assert [each.attributes["href"] for each in runs.all("a")] == [
        f"../market/2023-09-21/{row[0]}.html" for row in stored
    ]
    rows, seconds = page.section("Rows checked"), page.section("Seconds")
    assert rows.text.startswith("Rows checked 1,024 in the last run")
    assert seconds.text.startswith("Seconds 15.5 s of checking in the last run")
    assert [each.text for each in seconds.all("g", "bar")] == [
        f"Thu 21 Sep 2023: {words.number(row[3])} seconds" for row in reversed(stored)
    ]
    assert len(rows.all("g", "bar")) == 60
    assert "The last 60 runs: ◐ 60 quarantined" in page.all("header")[0].text.replace("◐60", "◐ 60")


def test_home_shows_every_dataset_and_what_readers_see(app: psycopg.Connection[Any], tmp_path: Path) -> None:
    for day in (DAY, DAY - timedelta(days=2), DAY - timedelta(days=1)):
        register.register(app, MARKET_DATA, "day", day, uuid4(), RUN)
    store(app, checkpoint="my <own>", day=date(2023, 9, 20))
    publish(app, store(app, validation(WARNED)), tmp_path)

    home = read(tmp_path / "index.html")
    assert [each.all("h2")[0].text for each in home.all("article")] == ["Market data", "Daily operations", "my <own>"]
    market, operations, own = home.all("article")
    [(day, at)] = app.execute(
        "select day, published_at from warehouse.publication where is_current order by day desc limit 1"
    ).fetchall()
    assert f"Readers see Thu 21 Sep 2023, since {words.moment(at)}" in market.text
    assert day == DAY
    assert market.all("a", "pill")[0].text == "!passed with a warning"
    assert "is on its way" not in market.text  # published after that run began
    assert "No batch of it was validated yet." in operations.text
    assert "Nothing is published yet" in operations.text
    assert "Readers" not in own.text


def test_home_says_what_is_about_to_be_published(app: psycopg.Connection[Any], tmp_path: Path) -> None:
    at = datetime.now(UTC) + timedelta(minutes=1)
    register.register(app, MARKET_DATA, "day", DAY - timedelta(days=1), uuid4(), RUN)
    publish(app, store(app, started_at=at), tmp_path)
    assert "; Thu 21 Sep 2023 is on its way" in read(tmp_path / "index.html").section("Market data").text

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
            elif "daily_operations" not in href and "market" not in href:  # which have no pages yet
                assert (page.parent / href).exists(), href
    assert airflow == ["https://airflow.example/here/dags/a%20dag/runs/manual__2023-09-22T09%3A00%3A00%2B00%3A00%2F%3F"]


def test_without_airflows_address_the_link_is_of_its_own_host(app: psycopg.Connection[Any], tmp_path: Path) -> None:
    page = publish(app, store(app), tmp_path)

    assert page.facts()["Run"].endswith("open in Airflow")
    [link] = page.section("Passed").all("a")
    assert link.attributes["href"] == (
        "/dags/market_etl__taskflow_api/runs/scheduled__2023-09-22T09%3A00%3A00%2B00%3A00"
    )
