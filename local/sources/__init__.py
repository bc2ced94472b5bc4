"""Stand-ins for the sources of datasets on one machine: one folder per dataset, which defines `SOURCE`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from importlib import import_module
from importlib.util import find_spec

from include.dataset import Dataset
from local.login import Login
from local.processes import Processes
from local.state import State


@dataclass(frozen=True)
class Started:
    """A stand-in that is ready."""

    env: Mapping[str, str] = field(default_factory=dict)
    """What Airflow's environment needs to reach it."""
    processes: Processes = field(default_factory=dict)


class Source:
    """The stand-in of one dataset's source. The methods here are those of a dataset that needs none."""

    step: str | None = None
    """What the platform prints while the stand-in starts; None: nothing."""
    note: str = ""
    """What somebody needs to know to trigger the DAGs by hand, for `make up`."""

    def check(self, day: date | None, live: bool) -> None:
        """Raise Refused when there is no data for a day, or `live` asks for something that is missing.

        `live` means that the real service is used, if there is one; `day` is None when no day is asked for.
        """

    def live_day(self) -> date | None:
        """Return the day that a demo with the real service is for, if the source knows."""
        return None

    def params(self, day: date) -> dict[str, object]:
        """Return the DAG params with which a run is for a day, or for the nearest one that has data."""
        return {}

    @contextmanager
    def running(self, state: State, warehouse: Login, live: bool) -> Iterator[Started]:
        """Run the stand-in until the end of the context, or fill the source tables as the admin."""
        yield Started()


def sources(datasets: tuple[Dataset, ...]) -> dict[str, Source]:
    """Return the stand-ins of datasets, by their names; a dataset without one is left out."""
    found = {}
    for dataset in datasets:
        if find_spec(f"{__name__}.{dataset.name}"):
            found[dataset.name] = import_module(f"{__name__}.{dataset.name}").SOURCE
    return found
