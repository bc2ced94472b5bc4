"""The runs that a killed platform left unfinished in Airflow's metadata."""

from collections import Counter
from pathlib import Path
from typing import LiteralString

from local.login import Login

_END_RUN: LiteralString = (Path(__file__).parent / "sql" / "end_run.sql").read_text()


def end_interrupted_runs(metadata: Login, warehouse: Login) -> Counter[str]:
    """End all unfinished runs, as a `success` if they published, else as `failed`; returns how many of each.

    To be called before Airflow's scheduler starts, which would continue them, and after the last process of theirs has
    ended: then what Airflow says of a run is what readers see, and stays so.
    """
    states: Counter[str] = Counter()
    with metadata.connect() as airflow, warehouse.connect() as register:
        unfinished = airflow.execute(
            "select dag_id, run_id, queued_at from dag_run where state in ('running', 'queued')"
        ).fetchall()
        for dag_id, run_id, queued_at in unfinished:
            # Since it was queued: a run that was cleared may have published in its life before.
            published = register.execute(
                "select from warehouse.publication where dag_id = %s and run_id = %s and published_at >= %s",
                [dag_id, run_id, queued_at],
            ).fetchone()
            state = "failed" if published is None else "success"
            airflow.execute(_END_RUN, {"state": state, "dag_id": dag_id, "run_id": run_id})
            states[state] += 1
    return states
