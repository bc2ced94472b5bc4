"""A real browser, if the machine has one: it executes nothing on a page, and reads the page as it is meant."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.include.quality.report.filled import DAY, finding, publish, store, validation

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCRIPT = (
    "</title></style></svg><script>document.body.innerHTML = 'run'</script><img src=x onerror='document.body.remove()'>"
)


@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium on this machine: apt install chromium")
def test_a_browser_executes_nothing(app: psycopg.Connection[Any], tmp_path: Path) -> None:
    bad = finding(SCRIPT, verdict="failed", observed=SCRIPT, observed_number=2.0, sample=[{SCRIPT: SCRIPT}])
    ids = store(app, validation(bad, suite=SCRIPT), checkpoint=SCRIPT)
    publish(app, ids, tmp_path, SCRIPT)

    for page in tmp_path.rglob("*.html"):
        dom = subprocess.run(
            [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
             "--dump-dom", page.as_uri()],
            capture_output=True, text=True, check=True, timeout=120,
        ).stdout  # fmt: skip
        assert "Airlock</b>" in dom
        assert "&lt;script&gt;document.body" in dom
        assert "<script" not in dom
        assert "<img" not in dom
        assert str(DAY.year) in dom
