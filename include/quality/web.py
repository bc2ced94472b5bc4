"""The report's pages behind Airflow's own login. Only the API server imports this, for plugins/data_quality.py."""

import logging
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.sdk import ObjectStoragePath
from fastapi import Depends, FastAPI, HTTPException, Request, Response, status
from fastapi.responses import HTMLResponse

from include.settings import settings

log = logging.getLogger(__name__)

# What a page's path may consist of. No segment starts with a dot, and there is no %, : or backslash. So a path can
# neither leave the root, nor name another store, nor be decoded a second time.
_SEGMENT = r"[A-Za-z0-9_=+-][A-Za-z0-9_.=+-]{0,199}"
_PAGE = re.compile(rf"(?:{_SEGMENT}/){{0,8}}{_SEGMENT}\.html")

# The pages need no script and no other host. Airflow's UI, which is `self`, shows them in a frame.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
}

_NOTE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Data quality</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem;color:#444;
background:#fff}}</style><h1>{title}</h1><p>{text}</p></html>"""


def app() -> FastAPI:
    """Return the application that serves the pages below AIRLOCK_REPORT_ROOT, with index.html at `/`."""
    # Without the pages of FastAPI's own documentation, which would be open to everybody.
    pages = FastAPI(dependencies=[Depends(_may_read_dags)], docs_url=None, redoc_url=None, openapi_url=None)
    pages.middleware("http")(_with_headers)
    pages.get("/{path:path}")(_page)
    return pages


def _may_read_dags(user: GetUserDep) -> None:
    """Raise a 403 for a user who may not read all DAGs. GetUserDep raises a 401 for one who is not logged in.

    Airflow's requires_access_dag would take a `dag_id` from the query: a user who may read one DAG could then name
    it, and read the pages of all of them.
    """
    if not get_auth_manager().is_authorized_dag(method="GET", user=user):
        raise HTTPException(status.HTTP_403_FORBIDDEN, "Forbidden")


async def _with_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    response.headers.update(_HEADERS)
    return response


def _page(path: str) -> HTMLResponse:  # not async: reading may be slow, so FastAPI runs it in a thread
    path = path or "index.html"
    try:
        return HTMLResponse(_read(path))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        if path == "index.html":
            return _note(
                404, "No report yet", "Run a DAG that has a quality gate: its validate task writes the report."
            )
        return _note(404, "No such page", "It may have been removed. Go to the first page of the report.")
    except Exception:  # every object store raises errors of its own
        log.exception("The quality report's %s could not be read", path)
        return _note(503, "The report cannot be read now", "Its storage did not answer. See the API server's log.")


def _read(path: str) -> bytes:
    """Return the content of a page. Raises FileNotFoundError for anything that is not a page below the root."""
    if not _PAGE.fullmatch(path):
        raise FileNotFoundError(path)
    root = ObjectStoragePath(settings().report_root)
    page = root / path
    if page.protocol not in ("", "file", "local"):
        content: bytes = page.fs.cat_file(page.path)
        return content
    file = Path(page.path).resolve()  # links are followed once, here, so that what is checked is what is read
    if not file.is_relative_to(Path(root.path).resolve()) or not file.is_file():
        raise FileNotFoundError(path)
    return file.read_bytes()


def _note(code: int, title: str, text: str) -> HTMLResponse:
    return HTMLResponse(_NOTE.format(title=title, text=text), code)
