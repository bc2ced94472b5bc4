"""Stand-ins for the sources of datasets on one machine: one folder per dataset, which defines `SOURCE`."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from importlib import import_module
from pathlib import Path

from include.dataset import Dataset
from local.login import Login
from local.processes import Processes
from local.state import LocalError, State


@dataclass(frozen=True)
class Started:
    """What a stand-in that is ready adds to the platform."""

    env: Mapping[str, str] = field(default_factory=dict)
    """What Airflow's environment needs to reach it."""
    processes: Processes = field(default_factory=dict)


class Source:
    """The stand-in of one dataset's source. The methods here are those of a dataset that needs none.

    `live` means that the real service is used, if there is one.
    """

    preload: tuple[str, ...] = ()
    """Modules that take long to import: the scheduler imports them once, so that no task has to."""

    def check(self, day: date | None, live: bool) -> None:
        """Raise Refused when there is no data for a day, or when `live` needs something that is missing.

        `day` is None when the DAGs are not run for one day, but left to a person or to their schedules.
        """

    def live_day(self) -> date | None:
        """Return the day that a demo with the real service is for; None when any day will do."""
        return None

    def params(self, day: date) -> dict[str, object]:
        """Return the params of a DAG run for a day, or for the nearest one that has data."""
        return {}

    def backfill_conf(self) -> dict[str, object]:
        """Return the params of a backfill's runs, beside the day. Raises Refused for a value that cannot be used."""
        return {}

    def note(self, live: bool) -> str:
        """Return what somebody has to know who uses the DAGs after `make up`; empty: nothing."""
        return ""

    @contextmanager
    def running(self, state: State, warehouse: Login, live: bool) -> Iterator[Started]:
        """Run the stand-in until the end of the context, or fill the source tables.

        `warehouse` is the admin's login.
        """
        yield Started()


def sources(datasets: Iterable[Dataset]) -> dict[str, Source]:
    """Return the stand-ins of datasets, by their names; a dataset without one is left out.

    Raises LocalError when the folder of a stand-in does not define one.
    """
    found = {}
    for dataset in datasets:
        if (Path(__file__).parent / dataset.schema / "__init__.py").exists():
            source = getattr(import_module(f"{__name__}.{dataset.schema}"), "SOURCE", None)
            if not isinstance(source, Source):
                raise LocalError(
                    f"local/sources/{dataset.schema}/__init__.py must define SOURCE, a Source of local.sources."
                )
            found[dataset.schema] = source
    return found
