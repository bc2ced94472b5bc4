"""The report's pages in Airflow's UI: who sees them, and that only pages below the report's root are served."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.api_fastapi.app import create_auth_manager, purge_cached_app
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.datamodels.plugins import ExternalViewResponse
from airflow.api_fastapi.core_api.security import get_user
from airflow.sdk.io.store import _STORE_CACHE, ObjectStore
from fastapi.testclient import TestClient

from include.quality import web
from plugins import data_quality

HIDDEN = "a file that nobody may read"
INDEX, PAGE = "<h1>Data quality</h1>", "<h1>2023-08-01: 18 ✓</h1>"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the root of a report, which has files in it and beside it that must not be served."""
    root = tmp_path / "reports"
    (root / "readings").mkdir(parents=True)
    (root / "index.html").write_text(INDEX)
    (root / "readings/2023-08-01.html").write_text(PAGE)
    for hidden in (
        tmp_path / "hidden.html",
        tmp_path / "reports-old/hidden.html",
        root / "hidden.txt",
        root / ".hidden.html",
    ):
        hidden.parent.mkdir(exist_ok=True)
        hidden.write_text(HIDDEN)
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", f"file://{root}")
    return root


@pytest.fixture
def anonymous() -> Iterator[TestClient]:
    """Yield a client of the pages that is not logged in."""
    create_auth_manager()
    yield TestClient(web.app())
    purge_cached_app()


def logged_in(client: TestClient, role: str | None) -> TestClient:
    """Return the client, logged in with a role."""
    client.app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="somebody", role=role)  # type: ignore[attr-defined]
    return client


@pytest.fixture
def viewer(anonymous: TestClient) -> TestClient:
    return logged_in(anonymous, "viewer")


def test_the_pages_are_served_as_they_are(root: Path, viewer: TestClient) -> None:
    for path, content in {"/": INDEX, "/index.html": INDEX, "/readings/2023-08-01.html": PAGE}.items():
        answer = viewer.get(path)
        assert (answer.status_code, answer.text) == (200, content)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("path", ["/", "/nothing.html"])
def test_a_page_may_execute_and_load_nothing_and_is_kept_in_no_shared_cache(
    root: Path, viewer: TestClient, path: str
) -> None:
    headers = viewer.get(path).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert "script-src" not in policy
    assert policy["style-src"] == "'unsafe-inline'"
    assert policy["img-src"] == "data:"
    assert policy["frame-ancestors"] == "'self'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize("path", ["/", "/readings/2023-08-01.html", "/nothing.html", "/docs", "/openapi.json"])
def test_without_a_login_nothing_is_served(root: Path, anonymous: TestClient, path: str) -> None:
    answer = anonymous.get(path)
    assert answer.status_code == 401
    assert answer.json() == {"detail": "Not authenticated"}
    assert answer.headers["cache-control"] == "private, no-cache"


def test_nothing_is_served_to_somebody_who_may_not_read_dags(root: Path, anonymous: TestClient) -> None:
    for path in ("/", "/readings/2023-08-01.html", "/nothing.html"):
        assert logged_in(anonymous, None).get(path).status_code == 403


def test_the_reader_of_one_dag_gets_no_access_by_naming_that_dag(
    root: Path, viewer: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_authorized_dag(*, details: Any = None, **_: Any) -> bool:
        return details is not None and details.id == "theirs"

    monkeypatch.setattr(web, "get_auth_manager", lambda: SimpleNamespace(is_authorized_dag=is_authorized_dag))
    assert viewer.get("/", params={"dag_id": "theirs"}).status_code == 403


OUTSIDE = [
    "../hidden.html",
    "readings/../../hidden.html",
    "..%2fhidden.html",
    "%2e%2e/hidden.html",
    "%2e%2e%2fhidden.html",
    "%252e%252e%252fhidden.html",
    "..%5chidden.html",
    "..\\hidden.html",
    "%2f{outside}/hidden.html",
    "/{outside}/hidden.html",
    "{outside}/hidden.html",
    "file://{outside}/hidden.html",
    "file:{outside}/hidden.html",
    "s3://bucket/hidden.html",
    "s3:%2f%2fbucket/hidden.html",
    "%00/../hidden.html",
    "index.html%00",
    "hidden.txt%00.html",
    "hidden.txt%0a.html",
    "../reports-old/hidden.html",
    "readings//2023-08-01.html",
    "readings/",
    "readings",
    ".hidden.html",
    "hidden.txt",
    ".html",
    "index.HTML",
    "%F0%9F%92%A9.html",
    f"{'a' * 250}.html",
    f"{'a/' * 5000}b.html",
    "~/hidden.html",
    "$HOME/hidden.html",
    "*.html",
    "[i]ndex.html",
]


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: path[:40])
def test_only_pages_below_the_root_are_served(root: Path, viewer: TestClient, path: str) -> None:
    answer = viewer.get(f"/{path.format(outside=root.parent)}")
    assert answer.status_code == 404
    assert HIDDEN not in answer.text
    assert INDEX not in answer.text


@pytest.mark.parametrize(
    "path", ["../hidden.html", "./index.html", "/etc/hidden.html", "a\\..\\b.html", "a\0.html", "a//b.html"]
)
def test_a_path_is_refused_as_the_server_decodes_it(root: Path, path: str) -> None:
    """The client of the tests may normalize an address before it sends it, so the function is called itself."""
    with pytest.raises(FileNotFoundError):
        web._read(path)


def test_a_link_that_leaves_the_root_is_not_followed(root: Path, viewer: TestClient) -> None:
    (root / "file.html").symlink_to(root.parent / "hidden.html")
    (root / "relative.html").symlink_to("../hidden.html")
    (root / "folder").symlink_to(root.parent)
    (root / "beside").symlink_to(root.parent / "reports-old")
    (root / "inside.html").symlink_to("readings/2023-08-01.html")
    for path in ("file.html", "relative.html", "folder/hidden.html", "beside/hidden.html"):
        answer = viewer.get(f"/{path}")
        assert (answer.status_code, HIDDEN in answer.text) == (404, False), path
    assert viewer.get("/inside.html").text == PAGE


def test_the_root_itself_may_be_a_link(root: Path, viewer: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    (root.parent / "link").symlink_to(root)
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", str(root.parent / "link"))
    assert viewer.get("/readings/2023-08-01.html").text == PAGE


def test_only_files_are_pages(root: Path, viewer: TestClient) -> None:
    (root / "folder.html").mkdir()
    os.mkfifo(root / "pipe.html")
    assert viewer.get("/pipe.html").status_code == 404, "and it does not wait for somebody to write into the pipe"
    assert viewer.get("/folder.html").status_code == 404
    assert viewer.get("/index.html/page.html").status_code == 404


@pytest.mark.parametrize("root", ["an empty folder", "no folder"])
def test_before_the_first_run_the_page_says_what_to_do(
    tmp_path: Path, viewer: TestClient, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", str(tmp_path if root == "an empty folder" else tmp_path / "none"))
    answer = viewer.get("/")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "No report yet" in answer.text
    assert "Run a DAG" in answer.text
    assert "No such page" in viewer.get("/readings/2023-08-01.html").text


class Store:
    """An object store with the one method that serving a page needs."""

    def __init__(self) -> None:
        self.objects = {"/bucket/reports/index.html": INDEX, "/bucket/hidden.html": HIDDEN}
        self.error: Exception | None = None

    def cat_file(self, path: str) -> bytes:
        if self.error:
            raise self.error
        if path not in self.objects:
            raise FileNotFoundError(path)
        return self.objects[path].encode()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store()
    monkeypatch.setitem(_STORE_CACHE, "memory", ObjectStore("memory", None, fs=store))
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", "memory://bucket/reports")
    return store


def test_an_object_store_serves_the_same(store: Store, viewer: TestClient) -> None:
    assert viewer.get("/").text == INDEX
    for path in (
        "nothing.html",
        "../hidden.html",
        "%2e%2e/hidden.html",
        "/bucket/hidden.html",
        "memory://bucket/hidden.html",
    ):
        answer = viewer.get(f"/{path}")
        assert (answer.status_code, HIDDEN in answer.text) == (404, False), path
    store.objects.clear()
    assert "No report yet" in viewer.get("/").text


def test_a_storage_that_does_not_answer_is_a_short_page_and_a_full_log(
    store: Store, viewer: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    store.error = ConnectionError("no route to bucket, key AKIA")
    answer = viewer.get("/")
    assert answer.status_code == 503
    assert "cannot be read now" in answer.text
    assert "AKIA" not in answer.text
    assert "no route to bucket" in caplog.text
    assert answer.headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize("root", ["nowhere://bucket/reports", "hdfs://nobody/reports"])
def test_a_root_that_cannot_be_used_is_a_503(viewer: TestClient, monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", root)
    assert viewer.get("/").status_code == 503


def test_a_worker_does_not_load_the_api_with_the_plugin() -> None:
    """Runs in a process of its own: this one has imported everything already."""
    script = """
import sys
import airflow.sdk
before = set(sys.modules)
from plugins.data_quality import DataQualityPlugin
plugin = DataQualityPlugin()
heavy = {"fastapi", "starlette", "include.quality.web", "airflow.models.xcom", "airflow.api_fastapi.app"}
assert not (set(sys.modules) - before) & heavy, (set(sys.modules) - before) & heavy
assert "fastapi" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_plugin_is_what_airflow_reads() -> None:
    plugin = data_quality.DataQualityPlugin()
    [view] = [ExternalViewResponse.model_validate(view) for view in plugin.external_views]
    assert (view.name, view.href, view.destination) == ("Data quality", "data-quality/", "nav")
    [served] = plugin.fastapi_apps
    assert served["url_prefix"] == "/data-quality"
    assert plugin.fastapi_apps[0]["app"] is served["app"]


@pytest.mark.parametrize(
    ("value", "link"),
    [
        ({"report": "{root}/readings/2023-08-01.html"}, "/data-quality/readings/2023-08-01.html"),
        ({"report": "{root}/a b/ü?#.html"}, "/data-quality/a%20b/%C3%BC%3F%23.html"),
        ({"report": "{root}-old/hidden.html"}, ""),
        ({"report": "{root}"}, ""),
        ({"report": "s3://elsewhere/readings/2023-08-01.html"}, ""),
        ({"report": "javascript:alert(1)"}, ""),
        ({"report": None}, ""),
        ({"verdict": "passed"}, ""),
        (["report"], ""),
        ("{root}/readings/2023-08-01.html", ""),
        (None, ""),
    ],
)
def test_a_task_links_to_its_page(root: Path, monkeypatch: pytest.MonkeyPatch, value: Any, link: str) -> None:
    if isinstance(value, dict) and value.get("report"):
        value = {"report": value["report"].format(root=f"file://{root}")}
    monkeypatch.setattr(data_quality, "_returned", lambda ti_key: value)
    operator: Any = None
    ti_key: Any = None
    assert data_quality.QualityReportLink().get_link(operator, ti_key=ti_key) == link
    if link:
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://astro.example/deployment/")
        assert data_quality.QualityReportLink().get_link(operator, ti_key=ti_key) == f"/deployment{link}"
