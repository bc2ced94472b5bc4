"""The gate: its verdicts, the values it writes into suites, its messages, and what it leaves behind."""

import json
import re
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from functools import partial
from hashlib import sha256
from multiprocessing import get_context as multiprocessing_context
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from great_expectations import Checkpoint

from include.dataset import Dataset, Table
from include.errors import PermanentError
from include.quality import gate as module
from include.quality.gate import PROJECT, gate
from include.quality.outcome import Outcome
from include.warehouse.roles import APP, set_password
from local.login import Login
from local.state import State
from tests.include.quality.suites import at_most, expectations, rule, stage_rollups, write_suite
from tests.toy import READINGS, ROLLUPS
from tests.toy.batches import DAY, GOOD, SENSORS, check, parameters, row, stage

pytestmark = pytest.mark.usefixtures("toys")

NEGATIVE = "value is not negative"


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the folder in which the test's gates make their private copies."""
    folder = tmp_path / "temporary files"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


# Verdicts


def test_an_expectation_that_raises_is_critical_whatever_its_severity(
    app: psycopg.Connection[Any], project: Path
) -> None:
    impossible = rule("SELECT * FROM {batch} WHERE 1 / (value - value) > 1", "the impossible", severity="warning")
    write_suite(project, "measured", *expectations("measured"), impossible)

    outcome = check(app, stage(app, GOOD))

    assert [(each.expectation, each.severity) for each in outcome.failures] == [("the impossible", "critical")]
    assert "division by zero" in outcome.failures[0].observed
    assert outcome.verdict == "failed"


def test_a_batch_without_rows_is_refused(app: psycopg.Connection[Any]) -> None:
    assert check(app, uuid4()).verdict == "failed"


def test_a_suite_without_expectations_is_refused(app: psycopg.Connection[Any], project: Path) -> None:
    write_suite(project, "measured")

    message = "Suite measured has no expectations: a gate that checks nothing stays closed"
    with pytest.raises(PermanentError, match=message):
        check(app, stage(app, GOOD))


def test_the_outcome_is_of_its_own_batch_only(app: psycopg.Connection[Any]) -> None:
    good, bad = stage(app, GOOD), stage(app, [row(SENSORS[0], -1.0)])

    assert check(app, good).verdict == "passed"
    assert check(app, bad).verdict == "failed"


def test_a_failure_names_the_expectation_what_was_observed_and_ten_bad_rows(
    app: psycopg.Connection[Any],
) -> None:
    sensors = [f"bad{number:02}" for number in range(15)]
    batch_id = stage(app, [*GOOD, *(row(sensor, -1.0) for sensor in sensors)])

    outcome = check(app, batch_id)

    head, *rows = outcome.describe("critical").splitlines()
    assert head == f"critical: measured: {NEGATIVE}: observed 15"
    assert len(rows) == 10
    assert all("sensor=bad" in each and "value=-1.0" in each for each in rows)


def test_a_failure_of_a_column_rule_names_ten_bad_rows_by_their_key(app: psycopg.Connection[Any]) -> None:
    sensors = [f"bad{number:02}" for number in range(15)]
    batch_id = stage(app, [*GOOD, *(row(sensor, None) for sensor in sensors)])

    outcome = check(app, batch_id)

    head, *rows = outcome.describe("critical").splitlines()
    assert head == "critical: measured: value is never empty: observed 15"
    assert len(rows) == 10
    assert all("day=2023-08-01, sensor=bad" in each for each in rows)


@pytest.mark.parametrize("with_ids", [(), (1,), (0, 1, 2)], ids=["no ids", "one has an id", "all have ids"])
def test_what_was_found_is_in_the_order_of_the_suite(
    app: psycopg.Connection[Any], project: Path, with_ids: tuple[int, ...]
) -> None:
    """Great Expectations groups its results by column."""
    written = [at_most("value", 1), rule("SELECT * FROM {batch}", "no rows"), at_most("value", 2)]
    for number in with_ids:
        written[number]["id"] = str(uuid4())
    suite = {"name": "measured", "expectations": written, **({"id": str(uuid4())} if with_ids else {})}
    (project / "expectations" / "measured.json").write_text(json.dumps(suite))

    outcome = check(app, stage(app, GOOD))

    assert [each.expectation for each in outcome.findings] == ["value is at most 1", "no rows", "value is at most 2"]


# Several suites


def check_rollups(app: psycopg.Connection[Any], batch_id: UUID, day: date = DAY) -> Outcome:
    return gate(app, ROLLUPS, batch_id, day)


def test_each_of_several_suites_sees_the_batch_in_its_own_table_and_is_named(
    app: psycopg.Connection[Any], project: Path
) -> None:
    batch_id = stage_rollups(app, [("north", 1), ("south", 1)])
    stage_rollups(app, [("east", 9)])
    of_today = "SELECT total FROM {batch} WHERE day = DATE '{day}' AND batch_id = '{batch_id}'"
    write_suite(project, "totals", rule(of_today, "the day has no total", severity="warning"))
    write_suite(project, "busiest", at_most("amount", 0), at_most("amount", 1))

    outcome = check_rollups(app, batch_id)

    assert (outcome.verdict, outcome.passed) == ("failed", 1)
    assert [str(each).splitlines()[0] for each in outcome.failures] == [
        "critical: busiest: amount is at most 0: observed 2",
        "warning: totals: the day has no total: observed 1",
    ]
    assert [(each.suite, each.staging_table, each.rows) for each in outcome.validations] == [
        ("busiest", "rollups_staging.busiest", 2),
        ("totals", "rollups_staging.totals", 1),
    ]
    # The same suites for a run of another day.
    assert check_rollups(app, batch_id, date(2023, 8, 2)).describe("warning") == ""


def test_failures_of_a_column_rule_in_one_of_several_suites_show_the_values(app: psycopg.Connection[Any]) -> None:
    """Great Expectations takes the columns of a key per checkpoint, and each view has a key of its own."""
    outcome = check_rollups(app, stage_rollups(app, [("North", 2), ("south", 1)]))

    assert outcome.describe("warning").splitlines() == [
        "warning: busiest: a sensor's name is lower-case: observed 1",
        "    North",
    ]


def test_an_sql_error_in_one_of_several_suites_is_critical_whatever_its_severity(
    app: psycopg.Connection[Any], project: Path
) -> None:
    write_suite(project, "busiest", rule("SELECT nonesuch FROM {batch}", "the impossible", severity="warning"))
    write_suite(project, "totals", at_most("total", 1))

    outcome = check_rollups(app, stage_rollups(app, [("north", 1)]))

    assert (outcome.verdict, outcome.passed) == ("failed", 1)
    assert outcome.describe("critical").startswith("critical: busiest: the impossible: observed an error: ")
    assert 'column "nonesuch" does not exist' in outcome.describe("critical")


@pytest.mark.parametrize("suite", ["busiest", "totals"])
@pytest.mark.parametrize(
    ("empty", "message"),
    [
        (False, "{0} has no suite: write great_expectations/expectations/{0}.json; nothing passes unchecked"),
        (True, "Suite {0} has no expectations: a gate that checks nothing stays closed"),
    ],
    ids=["missing", "empty"],
)
def test_one_of_several_suites_that_checks_nothing_closes_the_gate(
    app: psycopg.Connection[Any], project: Path, suite: str, *, empty: bool, message: str
) -> None:
    if empty:
        write_suite(project, suite)
    else:
        (project / "expectations" / f"{suite}.json").unlink()

    with pytest.raises(PermanentError, match=re.escape(message.format(suite))):
        check_rollups(app, stage_rollups(app, [("north", 1)]))


def test_a_table_is_checked_by_the_suite_that_it_declares(app: psycopg.Connection[Any], project: Path) -> None:
    dataset = replace(READINGS, publishes=(Table("measured", key=("day", "sensor"), day="day", suite="other_name"),))
    write_suite(project, "other_name", at_most("value", 10))

    outcome = gate(app, dataset, stage(app, GOOD), DAY)

    assert outcome.describe("critical").startswith("critical: other_name: value is at most 10: observed 2")


# Values of the run in a suite


def test_a_suite_gets_the_day_the_batch_and_the_parameters_of_the_run(
    app: psycopg.Connection[Any], project: Path
) -> None:
    """A parameter keeps its type, wherever it stands; the day and the batch also stand inside a text."""
    batch_id = stage(app, GOOD)
    write_suite(
        project,
        "measured",
        at_most("value", "{most_2}"),
        {
            "type": "expect_column_values_to_be_in_set",
            "kwargs": {"column": "sensor", "value_set": "{sensors}"},
            "severity": "critical",
        },
        {
            "type": "expect_column_values_to_be_in_set",
            "kwargs": {"column": "sensor", "value_set": ["{first}", "south", "{batch_id}", "{sensors} of {first}"]},
            "severity": "critical",
        },
        rule("SELECT * FROM {batch} WHERE day <> '{day}' OR batch_id <> '{batch_id}'", "rows of {day}, {batch_id}"),
    )
    given = {"most_2": 30.5, "sensors": list(SENSORS), "first": SENSORS[0], "day": "1999-01-01", "not_used": None}

    outcome = gate(app, READINGS, batch_id, DAY, given)

    assert outcome.failures == []
    assert [dict(each.arguments) for each in outcome.findings] == [
        {"max_value": 30.5},
        {"value_set": list(SENSORS)},
        {"value_set": [SENSORS[0], "south", str(batch_id), "{sensors} of {first}"]},
        {"unexpected_rows_query": f"SELECT * FROM {{batch}} WHERE day <> '{DAY}' OR batch_id <> '{batch_id}'"},
    ]
    assert outcome.findings[-1].expectation == f"rows of {DAY}, {batch_id}"


@pytest.mark.parametrize("name", ["sensors", "Top_10"])
def test_a_parameter_that_the_run_does_not_have_closes_the_gate(
    app: psycopg.Connection[Any], project: Path, name: str
) -> None:
    write_suite(project, "measured", at_most("value", f"{{{name}}}"))

    message = (
        f"great_expectations/expectations/measured.json asks for {{{name}}}, and the run has no such parameter: use "
        "one of another, batch_id, day."
    )
    with pytest.raises(PermanentError, match=re.escape(message)):
        gate(app, READINGS, stage(app, GOOD), DAY, {"another": 1})


# Great Expectations' own pages


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Let a test look around while its gate runs, when the checkpoint has run."""

    def look(at: Callable[[], object]) -> None:
        original = Checkpoint.run

        def run(self: Any, **how: object) -> Any:
            result = original(self, **how)
            at()
            return result

        monkeypatch.setattr(Checkpoint, "run", run)

    return look


Meanwhile = Callable[[Callable[[], object]], None]


@pytest.mark.parametrize("dataset", [READINGS, ROLLUPS], ids=lambda dataset: dataset.name)
def test_the_data_docs_lead_to_the_page_of_each_suite_and_name_the_dataset_as_the_checkpoint(
    app: psycopg.Connection[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Dataset
) -> None:
    batch_id = stage(app, GOOD) if dataset is READINGS else stage_rollups(app, [("north", 1)])
    checkpoints: list[str] = []
    original = Checkpoint.run

    def run(self: Any) -> Any:
        checkpoints.append(self.name)
        return original(self)

    monkeypatch.setattr(Checkpoint, "run", run)

    outcome = gate(app, dataset, batch_id, DAY, parameters(), data_docs=tmp_path / "pages")

    assert checkpoints == [outcome.checkpoint] == [dataset.name]
    index = tmp_path / "pages" / "index.html"
    pages = {index.parent / link for link in re.findall("link_path': '(validations/[^']+)'", index.read_text())}
    found = "".join(page.read_text() for page in pages)  # every link leads to a page that was copied
    assert len(pages) == len(dataset.publishes)
    for each in dataset.publishes:
        for expectation in expectations(each.name):
            assert expectation["description"] in found


def test_no_pages_are_written_that_were_not_asked_for(
    app: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take half of a gate's time."""
    built: list[str] = []
    monkeypatch.setattr("great_expectations.data_context.FileDataContext.build_data_docs", lambda _: built.append(""))

    check(app, stage(app, GOOD))

    assert built == []


# The private copy, and the connection


def test_the_project_is_unchanged_and_the_private_copy_removed(
    app: psycopg.Connection[Any], temporary: Path, meanwhile: Meanwhile
) -> None:
    before, modes = digests(module.PROJECT), list[int]()
    meanwhile(lambda: modes.extend(copy.stat().st_mode & 0o077 for copy in temporary.iterdir()))

    check(app, stage(app, GOOD))

    assert modes == [0]  # nobody else could look
    assert digests(module.PROJECT) == before
    assert list(temporary.iterdir()) == []


def test_the_private_copy_is_removed_when_the_checkpoint_raises(
    app: psycopg.Connection[Any], temporary: Path, meanwhile: Meanwhile
) -> None:
    meanwhile(lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        check(app, stage(app, GOOD))
    assert list(temporary.iterdir()) == []


def test_the_private_copy_is_removed_when_the_checkpoint_cannot_run(
    app: psycopg.Connection[Any], temporary: Path
) -> None:
    dataset = replace(READINGS, publishes=(Table("nonesuch", key=("day",), day="day"),))

    with pytest.raises(PermanentError, match="nonesuch has no suite"):
        gate(app, dataset, uuid4(), DAY)
    assert list(temporary.iterdir()) == []


@pytest.fixture
def awkward(warehouse: Login) -> Iterator[Login]:
    """Return the login of a role whose password means something to files, URLs and shells."""
    login = warehouse.as_role("gate tester", r"a:b\c$HOME'd@e/f?g%h#i \:j", warehouse.dbname)
    with warehouse.connect(autocommit=True) as admin:
        admin.execute(f'create role "{login.user}" login in role {APP}'.encode())
        set_password(admin, login.user, login.password)
        yield login
        admin.execute(f'drop role "{login.user}"'.encode())


def test_the_password_reaches_postgres_and_no_file(
    awkward: Login, temporary: Path, tmp_path: Path, meanwhile: Meanwhile
) -> None:
    files: dict[Path, str] = {}
    meanwhile(lambda: files.update(texts(temporary)))
    with awkward.connect() as connection:
        batch_id = stage(connection, GOOD)
        outcome = gate(connection, READINGS, batch_id, DAY, parameters(), data_docs=tmp_path / "pages")

    assert outcome.verdict == "passed"
    files.update(texts(tmp_path / "pages"))
    pages = [path for path in files if path.suffix == ".html"]
    assert any("validations" in path.parts for path in pages)
    # As it is, as pgpass escapes it, as a URL does: each begins or ends like one of these.
    signs = ("$HOME'd", "HOME%27d", "d@e/f", "d%40e", "%25h%23i")
    assert {path for path, text in files.items() for sign in signs if sign in text} == set()


def texts(folder: Path) -> dict[Path, str]:
    return {path: path.read_text("latin-1") for path in folder.rglob("*") if path.is_file()}


def test_the_gate_connects_as_the_task_does(warehouse: Login, state: State, meanwhile: Meanwhile) -> None:
    name = "it's $HOME: 5% & a\\b"  # one of the options that a connection may have
    login = warehouse.as_role(APP, state.secrets[APP], warehouse.dbname)
    found: list[object] = []

    with login.connect(application_name=name) as connection:
        named = "select count(*) > 1 from pg_stat_activity where application_name = %s and usename = %s"
        meanwhile(lambda: found.append(connection.execute(named, [name, APP]).fetchone()))
        check(connection, stage(connection, GOOD))

    assert found == [(True,)]


# Gates at the same time


def verdicts_at_once(executor: Executor, app: psycopg.Connection[Any], warehouse: Login, state: State) -> None:
    batches = [GOOD, [row(SENSORS[0], -1.0), row(SENSORS[1])]] * 2
    batch_ids = [stage(app, rows) for rows in batches]
    login = warehouse.as_role(APP, state.secrets[APP], warehouse.dbname)
    with executor:
        assert list(executor.map(partial(verdict, login), batch_ids)) == ["passed", "failed"] * 2


def test_gates_in_processes_return_the_verdict_of_their_own_batch(
    app: psycopg.Connection[Any], warehouse: Login, state: State
) -> None:
    # Forked, as the LocalExecutor does it.
    verdicts_at_once(ProcessPoolExecutor(2, multiprocessing_context("fork")), app, warehouse, state)


def test_gates_in_threads_run_one_after_the_other_and_return_the_verdict_of_their_own_batch(
    app: psycopg.Connection[Any],
    warehouse: Login,
    state: State,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Meanwhile,
) -> None:
    import great_expectations

    seen: list[str] = []
    get_context = great_expectations.get_context

    def begin(**how: object) -> Any:
        seen.append("begin")
        return get_context(**how)

    monkeypatch.setattr(great_expectations, "get_context", begin)
    meanwhile(lambda: seen.append("end"))

    verdicts_at_once(ThreadPoolExecutor(2), app, warehouse, state)

    assert seen == ["begin", "end"] * 4


def verdict(login: Login, batch_id: UUID) -> str:
    with login.connect() as connection:
        return check(connection, batch_id).verdict


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_project_folder_does_not_shadow_the_library() -> None:
    assert not (PROJECT / "__init__.py").exists()
