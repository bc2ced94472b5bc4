"""The gate as a whole: its verdicts, its text, and what it leaves behind."""

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
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

from include.errors import PermanentError
from include.quality.gate import PROJECT, gate
from include.quality.outcome import Outcome
from include.warehouse.roles import APP, set_password
from local.login import Login
from local.state import State
from tests.include.quality.batches import DAY, GOOD, STAGED, check, parameters, row, stage

NEGATIVE = {"open_price": -1.0, "high_price": -1.0, "low_price": -1.0, "close_price": -1.0, "change": 0.0}
MARKET = {"market": STAGED}
PRICES = "prices are positive and finite"


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give the folder in which the test's gates make their private copies."""
    folder = tmp_path / "temporary files"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Give a copy of the GX project that a test may change."""
    return Path(shutil.copytree(PROJECT, tmp_path / "project"))


def change_suite(project: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    file = project / "expectations" / "market.json"
    suite = json.loads(file.read_text())
    change(suite["expectations"])
    file.write_text(json.dumps(suite))


def test_an_expectation_that_raises_is_critical_whatever_its_severity(
    app: psycopg.Connection[Any], project: Path
) -> None:
    change_suite(
        project,
        lambda expectations: expectations.append(
            {
                "description": "the impossible",
                "id": str(uuid4()),
                "kwargs": {"unexpected_rows_query": "SELECT * FROM {batch} WHERE 1 / (volume - volume) > 1"},
                "meta": {},
                "severity": "warning",
                "type": "unexpected_rows_expectation",
            }
        ),
    )

    outcome = check(app, stage(app, GOOD), project=project)

    assert [(each.expectation, each.severity) for each in outcome.failures] == [("the impossible", "critical")]
    assert "division by zero" in outcome.failures[0].observed
    assert outcome.verdict == "failed"


def test_a_parameter_that_is_missing_closes_the_gate(app: psycopg.Connection[Any]) -> None:
    batch_id = stage(app, GOOD)
    given = parameters()
    del given["tickers"]

    with pytest.raises(Exception, match=r"No value found for \$PARAMETER tickers"):
        gate(app, "market", batch_id, DAY, MARKET, given)


def test_a_batch_without_rows_is_refused(app: psycopg.Connection[Any]) -> None:
    assert check(app, uuid4()).verdict == "failed"


def test_a_suite_without_expectations_is_refused(app: psycopg.Connection[Any], project: Path) -> None:
    change_suite(project, lambda expectations: expectations.clear())

    with pytest.raises(PermanentError, match="Suite market has no expectations: a gate that checks nothing stays shut"):
        check(app, stage(app, GOOD), project=project)


SEVERAL = {"prices": STAGED, "counts": "market_staging.counted"}


@pytest.fixture
def counted(app: psycopg.Connection[Any], warehouse: Login) -> UUID:
    """Stage a good batch of prices, and under its key rows of another table."""
    batch_id = stage(app, GOOD)
    with warehouse.connect() as admin:
        admin.execute("create table market_staging.counted (batch_id uuid, n int)")
        admin.execute(f"grant select on market_staging.counted to {APP}".encode())
        admin.execute("insert into market_staging.counted values (%s, 1), (%s, 1), (%s, 9)", [batch_id] * 2 + [uuid4()])
    return batch_id


def write_suite(project: Path, name: str, *expectations: dict[str, object]) -> None:
    """Write a suite as a person does: without ids, meta and versions."""
    file = project / "expectations" / f"{name}.json"
    file.write_text(json.dumps({"name": name, "expectations": expectations}))


def rule(description: str, query: str, severity: str = "critical") -> dict[str, object]:
    return {
        "type": "unexpected_rows_expectation",
        "kwargs": {"unexpected_rows_query": query},
        "severity": severity,
        "description": description,
    }


def at_most(largest: int) -> dict[str, object]:
    return {
        "type": "expect_column_values_to_be_between",
        "kwargs": {"column": "n", "max_value": largest},
        "severity": "critical",
        "description": f"n is at most {largest}",
    }


def check_several(app: psycopg.Connection[Any], batch_id: UUID, project: Path, day: date = DAY) -> Outcome:
    return gate(app, "several", batch_id, day, SEVERAL, project=project)


def test_each_of_several_suites_sees_the_batch_in_its_own_table_and_is_named(
    app: psycopg.Connection[Any], counted: UUID, project: Path
) -> None:
    nothing_today = "SELECT ticker FROM {batch} WHERE market_date = DATE '{day}' AND batch_id = '{batch_id}'"
    write_suite(project, "prices", rule("no price of the day", nothing_today, "warning"))
    write_suite(project, "counts", at_most(0), at_most(1))

    outcome = check_several(app, counted, project)

    assert (outcome.verdict, outcome.passed) == ("failed", 1)
    assert [str(each).splitlines()[0] for each in outcome.failures] == [
        "warning: prices: no price of the day: observed 2",
        "critical: counts: n is at most 0: observed 2",
    ]
    # The same suites of a run of another day.
    assert check_several(app, counted, project, date(2023, 8, 2)).told("warning") == ""


def test_an_sql_error_in_one_of_several_suites_is_critical_whatever_its_severity(
    app: psycopg.Connection[Any], counted: UUID, project: Path
) -> None:
    write_suite(project, "prices", rule("the impossible", "SELECT nonesuch FROM {batch}", "warning"))
    write_suite(project, "counts", at_most(1))

    outcome = check_several(app, counted, project)

    assert (outcome.verdict, outcome.passed) == ("failed", 1)
    assert outcome.told("critical").startswith("critical: prices: the impossible: observed an error: ")
    assert 'column "nonesuch" does not exist' in outcome.told("critical")


@pytest.mark.parametrize(
    ("suites", "message"),
    [
        (["counts"], "prices has no suite: write great_expectations/expectations/prices.json"),
        (["prices", "counts"], "Suite prices has no expectations: a gate that checks nothing stays shut"),
    ],
    ids=["missing", "empty"],
)
def test_one_of_several_suites_that_checks_nothing_keeps_the_gate_shut(
    app: psycopg.Connection[Any], counted: UUID, project: Path, suites: list[str], message: str
) -> None:
    for suite in suites:
        write_suite(project, suite, *([at_most(1)] if suite == "counts" else []))

    with pytest.raises(PermanentError, match=message):
        check_several(app, counted, project)


def test_the_data_docs_of_several_suites_lead_to_the_page_of_each(
    app: psycopg.Connection[Any], counted: UUID, project: Path, tmp_path: Path
) -> None:
    write_suite(project, "prices", rule("no price is old", "SELECT * FROM {batch} WHERE market_date < DATE '{day}'"))
    write_suite(project, "counts", at_most(1))

    gate(app, "several", counted, DAY, SEVERAL, project=project, data_docs=tmp_path / "pages")

    index = tmp_path / "pages" / "index.html"
    pages = {index.parent / link for link in re.findall("link_path': '(validations/[^']+)'", index.read_text())}
    found = "".join(page.read_text() for page in pages)  # every link leads to a page that was copied
    assert len(pages) == 2
    assert "no price is old" in found
    assert "n is at most 1" in found


def test_the_outcome_is_of_its_own_batch_alone(app: psycopg.Connection[Any]) -> None:
    good, bad = stage(app, GOOD), stage(app, [row("AAPL", **NEGATIVE)])

    assert check(app, good).verdict == "passed"
    assert check(app, bad).verdict == "failed"


def test_a_failure_names_the_expectation_what_was_observed_and_ten_bad_rows(
    app: psycopg.Connection[Any],
) -> None:
    tickers = [f"BAD{number:02}" for number in range(15)]
    batch_id = stage(app, [*GOOD, *(row(ticker, **NEGATIVE) for ticker in tickers)])

    outcome = check(app, batch_id)

    head, *rows = outcome.told("critical").splitlines()
    assert head == f"critical: market: {PRICES}: observed 15"
    assert len(rows) == 10
    assert all("ticker=BAD" in each and "low_price=-1.0" in each for each in rows)


def test_a_failure_of_a_column_rule_names_ten_bad_rows_by_their_key(app: psycopg.Connection[Any]) -> None:
    tickers = [f"BAD{number:02}" for number in range(15)]
    batch_id = stage(app, [*GOOD, *(row(ticker, volume=None) for ticker in tickers)])

    outcome = check(app, batch_id)

    head, *rows = outcome.told("critical").splitlines()
    assert head == "critical: market: volume is never empty: observed 15"
    assert len(rows) == 10
    assert all("market_date=2023-08-01, ticker=BAD" in each for each in rows)


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Let a test look while its gate runs: once the checkpoint has."""

    def look(at: Callable[[], object]) -> None:
        original = Checkpoint.run

        def run(self: Any, **how: object) -> Any:
            result = original(self, **how)
            at()
            return result

        monkeypatch.setattr(Checkpoint, "run", run)

    return look


Meanwhile = Callable[[Callable[[], object]], None]


def test_the_committed_project_is_unchanged_and_the_private_copy_gone(
    app: psycopg.Connection[Any], temporary: Path, meanwhile: Meanwhile
) -> None:
    before, modes = digests(PROJECT), list[int]()
    meanwhile(lambda: modes.extend(copy.stat().st_mode & 0o077 for copy in temporary.iterdir()))

    check(app, stage(app, GOOD))

    assert modes == [0]  # nobody else could look
    assert digests(PROJECT) == before
    assert list(temporary.iterdir()) == []


def test_the_private_copy_is_gone_when_the_checkpoint_raises(
    app: psycopg.Connection[Any], temporary: Path, meanwhile: Meanwhile
) -> None:
    meanwhile(lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        check(app, stage(app, GOOD))
    assert list(temporary.iterdir()) == []


def test_the_private_copy_is_gone_when_the_checkpoint_cannot_run(app: psycopg.Connection[Any], temporary: Path) -> None:
    with pytest.raises(PermanentError, match="nonesuch has no suite"):
        gate(app, "nonesuch", uuid4(), DAY, {"nonesuch": STAGED})
    assert list(temporary.iterdir()) == []


def test_no_pages_are_written_that_nobody_asked_for(
    app: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take half of a gate's time."""
    built: list[str] = []
    monkeypatch.setattr("great_expectations.data_context.FileDataContext.build_data_docs", lambda _: built.append(""))

    check(app, stage(app, GOOD))

    assert built == []


@pytest.fixture
def awkward(warehouse: Login) -> Iterator[Login]:
    """Give the login of a role whose password means something to files, URLs and shells."""
    login = warehouse.as_role("gate tester", r"a:b\c$HOME'd@e/f?g%h#i \:j", warehouse.dbname)
    with warehouse.connect(autocommit=True) as admin:
        admin.execute(f'create role "{login.user}" login in role {APP}'.encode())
        set_password(admin, login.user, login.password)
        yield login
        admin.execute(f'drop role "{login.user}"'.encode())


def test_the_password_reaches_postgres_and_no_page_or_setting(
    awkward: Login, temporary: Path, tmp_path: Path, meanwhile: Meanwhile
) -> None:
    files: dict[Path, str] = {}
    meanwhile(lambda: files.update(texts(temporary)))
    with awkward.connect() as connection:
        batch_id = stage(connection, GOOD)
        outcome = gate(connection, "market", batch_id, DAY, MARKET, parameters(), data_docs=tmp_path / "pages")

    assert outcome.verdict == "passed"
    files.update(texts(tmp_path / "pages"))
    pages = [path for path in files if path.suffix == ".html"]
    password_file = next(path for path in files if path.name == "pgpass")
    assert any("validations" in path.parts for path in pages)
    assert [path for path in pages if "pgpass" in files[path]] == []
    assert r"a\:b\\c$HOME" in files[password_file]
    # As it is, as pgpass escapes it, as a URL does: each begins or ends like one of these.
    signs = ("$HOME'd", "HOME%27d", "d@e/f", "d%40e", "%25h%23i")
    assert {path for path, text in files.items() for sign in signs if sign in text} == {password_file}


def texts(folder: Path) -> dict[Path, str]:
    return {path: path.read_text("latin-1") for path in folder.rglob("*") if path.is_file()}


def test_the_gate_connects_as_the_task_does(
    warehouse: Login, state: State, temporary: Path, meanwhile: Meanwhile
) -> None:
    name = "it's $HOME: 5% & a\\b"  # one of the options that a connection may carry
    login = warehouse.as_role(APP, state.secrets[APP], warehouse.dbname)
    found: list[object] = []

    with login.connect(application_name=name, sslmode="disable") as connection:
        named = "select count(*) > 1 from pg_stat_activity where application_name = %s and usename = %s"
        meanwhile(lambda: found.append(connection.execute(named, [name, APP]).fetchone()))
        meanwhile(lambda: found.extend(path.read_text() for path in temporary.rglob("config_variables.yml")))
        check(connection, stage(connection, GOOD))

    assert found[0] == (True,)
    assert "sslmode=disable" in str(found[1])


def verdicts_at_once(executor: Executor, app: psycopg.Connection[Any], warehouse: Login, state: State) -> None:
    batches = [GOOD, [row("AAPL", **NEGATIVE), row("AMZN")]] * 2
    batch_ids = [stage(app, rows) for rows in batches]
    login = warehouse.as_role(APP, state.secrets[APP], warehouse.dbname)
    with executor:
        assert list(executor.map(partial(verdict, login), batch_ids)) == ["passed", "failed"] * 2


def test_gates_in_processes_give_each_batch_its_own_verdict(
    app: psycopg.Connection[Any], warehouse: Login, state: State
) -> None:
    # Forked, as the LocalExecutor does it.
    verdicts_at_once(ProcessPoolExecutor(2, multiprocessing_context("fork")), app, warehouse, state)


def test_gates_in_threads_take_turns_and_give_each_batch_its_own_verdict(
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
