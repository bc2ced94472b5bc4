"""The page of a gate, put where people can open it."""

import logging
from pathlib import Path

import pytest

from include.quality import report


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Give a Data Docs site as GX lays it out."""
    return page_of(tmp_path / "site", "20230802T090000Z")


def page_of(site: Path, run: str) -> Path:
    page = site / "validations" / "market" / "__none__" / run / "warehouse-market.html"
    page.parent.mkdir(parents=True)
    page.write_text(f"what the gate found in {run}")
    (site / "index.html").write_text("index")
    (site / "static").mkdir(exist_ok=True)
    (site / "static" / "large.css").write_text("css")
    return site


def test_the_pages_are_copied_and_the_address_is_of_the_validation(site: Path, tmp_path: Path) -> None:
    address = report.publish(site, f"{tmp_path}/the reports", "market/2023-08-01/a")

    assert address
    page = Path(address.removeprefix("file://"))
    assert page.is_relative_to(tmp_path / "the reports" / "market" / "2023-08-01" / "a")
    assert page.read_text() == "what the gate found in 20230802T090000Z"
    assert {path.name for path in (tmp_path / "the reports").rglob("*") if path.is_file()} == {
        "index.html",
        "warehouse-market.html",
    }


def test_the_address_of_several_pages_is_of_their_list(site: Path, tmp_path: Path) -> None:
    page_of(site, "20230802T100000Z")

    address = report.publish(site, f"{tmp_path}/reports", "daily_operations/2023-08-01/a")

    assert address == f"{tmp_path}/reports/daily_operations/2023-08-01/a/index.html"
    assert len(list((tmp_path / "reports").rglob("warehouse-market.html"))) == 2


def test_a_root_can_be_a_url(site: Path, tmp_path: Path) -> None:
    address = report.publish(site, (tmp_path / "reports").as_uri(), "market/2023-08-01/a")

    assert address
    assert address.startswith((tmp_path / "reports").as_uri())
    assert Path(address.removeprefix("file://")).exists()


def test_every_run_keeps_its_page(site: Path, tmp_path: Path) -> None:
    other = page_of(tmp_path / "other site", "20230802T100000Z")
    addresses = [
        report.publish(site, f"{tmp_path}/reports", "market/2023-08-01/a"),
        report.publish(site, f"{tmp_path}/reports", "market/2023-08-01/b"),
        report.publish(other, f"{tmp_path}/reports", "market/2023-08-01/b"),  # the second run, tried again
    ]

    assert len(set(addresses)) == 3
    assert all(address and Path(address.removeprefix("file://")).exists() for address in addresses)


@pytest.mark.parametrize(
    "root", ["/dev/null/reports", "nonesuch://bucket/reports"], ids=["a folder", "an unknown store"]
)
def test_an_unreachable_root_is_a_warning(site: Path, root: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="include.quality.report"):
        assert report.publish(site, root, "market/2023-08-01/a") is None

    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert root in record.getMessage()
    assert "the verdict stands" in record.getMessage()
