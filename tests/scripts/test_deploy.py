"""The steps of a deploy against a double of Airflow; whole deploys are in tests/workflows/test_deploy.py."""

from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from rich.console import Console

from scripts import deploy
from scripts.deploy import DEPLOYED, Deploy, StepFailed
from scripts.deploy_mode import Decision, Mode
from scripts.smoke_run import SmokeFailed
from tests.scripts.conftest import Airflow, Commit

IMAGE = Decision(Mode.IMAGE, "", infrastructure=False)
# The steps that only read; the others call Terraform and Astro.
READING = ("settings", "read deployed commit", "decide", "list the smoke runs")


def to(url: str, *, rollback: bool = False) -> Deploy:
    outputs = {"workspace_id": "w", "deployment_id": "d", "deployment_url": url}
    made = Deploy("dev", "HEAD", rollback, "token", Console(record=True, width=120), outputs=outputs)
    made.pause, made.patience = 0.01, 0.1
    return made


def steps_after_decision(made: Deploy) -> list[str]:
    """Return the names of the steps that follow the decision, and run only the steps that read."""
    names = []
    for name, function in made.steps():
        names.append(name)
        if name in READING:
            function()
    return names[names.index("decide") + 1 :]


def test_an_airflow_that_does_not_start_gets_a_new_image(project: Path) -> None:
    steps = to("http://127.0.0.1:9").steps()
    for name, function in steps:
        if name in READING:
            function()
        if name == "decide":
            break
    assert [next(steps)[0] for _ in range(4)] == [
        "astro deploy",
        "wait for Airflow",
        "mark as unfinished",
        "wait for the new DAGs",
    ]


def test_a_deploy_runs_the_migrations_and_then_each_dag_with_the_tag(airflow: Airflow) -> None:
    airflow.tagged = {"stock", "orders"}
    assert steps_after_decision(to(airflow.url)) == [
        "mark as unfinished",
        "astro deploy",
        "wait for Airflow",
        "wait for the new DAGs",
        "warehouse_migrations",
        "list the smoke runs",
        "orders",
        "stock",
        "store deployed commit",
    ]


def test_a_rollback_runs_no_migration(airflow: Airflow) -> None:
    airflow.tagged = {"orders"}
    steps = steps_after_decision(to(airflow.url, rollback=True))
    assert steps[-4:] == ["wait for the new DAGs", "list the smoke runs", "orders", "store deployed commit"]


def test_after_a_change_of_the_infrastructure_the_smoke_runs_are_made(airflow: Airflow, commit: Commit) -> None:
    airflow.tagged = {"orders"}
    airflow.variables[DEPLOYED] = commit()
    commit(**{"terraform/main.tf": "changed\n"})
    assert steps_after_decision(to(airflow.url)) == ["list the smoke runs", "orders", "store deployed commit"]


def test_without_a_change_nothing_is_run(airflow: Airflow, commit: Commit) -> None:
    airflow.tagged = {"orders"}
    airflow.variables[DEPLOYED] = commit()
    assert steps_after_decision(to(airflow.url)) == []


def test_without_a_tagged_dag_the_deploy_says_how_to_add_one_and_succeeds(airflow: Airflow) -> None:
    made = to(airflow.url)
    assert steps_after_decision(made)[-2:] == ["list the smoke runs", "store deployed commit"]
    text = made.console.export_text()
    assert "No DAG has the tag `smoke`" in text
    assert 'tags=[..., "smoke"]' in text


def test_a_smoke_run_has_the_default_params_of_its_dag(airflow: Airflow) -> None:
    to(airflow.url).smoke("orders")
    assert airflow.runs == [("orders", {})]
    assert airflow.paused["orders"], "a paused DAG is paused again"


def test_a_refused_token_stops_the_deploy(airflow: Airflow) -> None:
    airflow.token = "another"
    with pytest.raises(SmokeFailed, match="refused the token"):
        to(airflow.url).read_deployed_commit()


def test_the_deploy_waits_until_airflow_has_read_the_new_files(airflow: Airflow) -> None:
    requests = []

    def old_at_first(dag_id: str) -> str:
        requests.append(dag_id)
        text = (airflow.dags / f"{dag_id}.py").read_text()
        return text if requests.count(dag_id) > 1 else "# the old file"

    airflow.source = old_at_first
    to(airflow.url).await_dags()
    assert set(requests) == {"orders", "returns", "stock"}


@pytest.mark.parametrize(("mode", "waits"), [(Mode.IMAGE, True), (Mode.DAGS, False)])
def test_after_a_new_image_the_deploy_waits_until_each_dag_was_parsed_again(
    airflow: Airflow, monkeypatch: pytest.MonkeyPatch, mode: Mode, waits: bool
) -> None:
    """The DAGs of a file can change through include/, though the text of the file is the same."""
    monkeypatch.setattr(deploy, "_READ_SECONDS", 0.1)
    made = to(airflow.url)
    made.decision = Decision(mode, "", infrastructure=False)
    airflow.parse_number = lambda dag_id: 1
    made.await_airflow()
    airflow.parse_number = lambda dag_id: 1 if dag_id == "stock" else 2
    if waits:
        with pytest.raises(StepFailed, match=r"not read the new stock\.py after"):
            made.await_dags()
        airflow.parse_number = lambda dag_id: 2
    made.await_dags()


def test_a_file_that_airflow_never_reads_is_reported(airflow: Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploy, "_READ_SECONDS", 0.1)
    del airflow.paused["stock"]
    with pytest.raises(StepFailed, match=r"not read the new stock\.py after"):
        to(airflow.url).await_dags()


@pytest.mark.parametrize(
    ("step", "advice"),
    [
        ("decide", "No code was deployed"),
        ("terraform apply", "a part of the plan may be applied"),
        ("astro deploy", "commit 0123abc"),
        ("wait for the new DAGs", "commit 0123abc"),
        ("orders", "commit 0123abc"),
        ("store deployed commit", "commit 0123abc"),
    ],
)
def test_the_advice_after_a_failure_depends_on_whether_the_new_code_may_run(step: str, advice: str) -> None:
    made = to("http://127.0.0.1:9")
    made.before, made.decision = "0123abc", IMAGE
    assert advice in deploy.recovery(made, step)


def test_an_interrupted_deploy_says_how_to_roll_back(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_deploy: Deploy) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Deploy, "check_settings", interrupt)
    made = to(httpserver.url_for("/"))
    made.console = Console(width=120)
    assert deploy.carry_out(made) == 130
    assert "Interrupted.\n\nNo code was deployed" in capsys.readouterr().out
