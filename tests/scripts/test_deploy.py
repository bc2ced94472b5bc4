"""Parts of a deploy that take long with a real clock; the whole of it is in tests/workflows/test_deploy.py."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from rich.console import Console

from include.market.calendar import last_completed_session
from scripts import deploy
from scripts.deploy import Deploy, StepFailed
from scripts.deploy_mode import Decision, Mode
from scripts.smoke_run import SmokeFailed
from tests.workflows.airflow_double import AirflowDouble


@pytest.fixture
def airflow(httpserver: HTTPServer, repository: Path, tmp_path: Path) -> AirflowDouble:
    return AirflowDouble(httpserver, "token", repository / "dags", tmp_path / "calls.jsonl")


def to(url: str, *, given: str = "token") -> Deploy:
    outputs = {"workspace_id": "w", "deployment_id": "d", "deployment_url": url}
    made = Deploy("dev", "HEAD", rollback=False, views_fed=False, token=given, console=Console(), outputs=outputs)
    made.pause, made.patience = 0.01, 0.1
    return made


def names(made: Deploy) -> list[str]:
    """Give the steps, when nothing is done but asking and deciding."""
    return [step for step, do in made.steps() if step not in ("ask what is deployed", "decide") or not do()]


def test_an_airflow_that_does_not_start_gets_a_new_image(httpserver: HTTPServer) -> None:
    steps = names(to("http://127.0.0.1:9"))
    after = steps[steps.index("decide") + 1 :]
    assert after[:4] == ["astro deploy", "wait for Airflow", "note what is begun", "wait for the new DAGs"]
    assert after[-1] == "remember what is deployed"


def test_one_that_answers_notes_it_first(airflow: AirflowDouble) -> None:
    steps = names(to(airflow.url))
    assert steps[steps.index("decide") + 1 :][:2] == ["note what is begun", "astro deploy"]


def test_a_refused_token_deploys_nothing(airflow: AirflowDouble) -> None:
    with pytest.raises(SmokeFailed, match="refused the token"):
        to(airflow.url, given="another").ask()


def test_dags_are_waited_for_until_airflow_has_read_them(airflow: AirflowDouble) -> None:
    made = to(airflow.url)
    asked = []

    def old_at_first(dag_id: str) -> str:
        asked.append(dag_id)
        text = (airflow.dags / f"{dag_id}.py").read_text()
        return text if asked.count(dag_id) > 1 else "# the old file"

    airflow.source = old_at_first
    made.await_dags()
    assert set(asked) == {path.stem for path in airflow.dags.glob("*.py")}


def test_dags_that_never_come_are_told(airflow: AirflowDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploy, "_READ_SECONDS", 0.5)
    made = to(airflow.url)
    del airflow.paused["data_freshness"]
    with pytest.raises(StepFailed, match=r"not read the new data_freshness\.py"):
        made.await_dags()


def test_a_failed_step_never_claims_that_nothing_happened_once_code_may_run() -> None:
    made = to("http://127.0.0.1:9")
    made.before = "0123abc"
    made.decision = Decision(Mode.IMAGE, "", infrastructure=False)
    for step in (
        "astro deploy",
        "wait for Airflow",
        "wait for the new DAGs",
        "warehouse_migrations",
        "remember what is deployed",
    ):
        assert "commit 0123abc" in deploy.go_back(made, step)
    assert "No code was deployed" in deploy.go_back(made, "decide")


def test_the_smoke_run_takes_a_session_whose_figures_have_settled(
    airflow: AirflowDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("scripts.smoke_run.run", lambda *given: asked.append(given[2:]))
    made = to(airflow.url)
    made.smoke("market_etl__taskflow_api")
    made.smoke("warehouse_migrations")
    settled = last_completed_session(datetime.now(UTC) - timedelta(hours=12)).isoformat()
    assert asked == [("market_etl__taskflow_api", {"market_date": settled}), ("warehouse_migrations", {})]


def test_what_is_interrupted_says_how_to_go_back(airflow: AirflowDouble, capsys: pytest.CaptureFixture[str]) -> None:
    made = to(airflow.url)

    def interrupted() -> None:
        raise KeyboardInterrupt

    made.check_settings = interrupted  # type: ignore[method-assign]
    assert deploy.carry_out(made) == 130
    assert "Interrupted" in capsys.readouterr().out
