import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from scripts.install_astro import Refused, install


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an archive that a stand-in for curl downloads from any address; it records the address."""
    made = tmp_path / "archive.tar.gz"
    with tarfile.open(made, "w:gz") as tar:
        about = tarfile.TarInfo("astro")
        about.size, about.mode = 4, 0o755
        tar.addfile(about, io.BytesIO(b"tool"))
    curl = tmp_path / "bin" / "curl"
    curl.parent.mkdir()
    curl.write_text(f'#!/bin/sh\nfor last; do :; done\necho "$last" > "{tmp_path}/address"\ncp "{made}" "${{10}}"\n')
    curl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{curl.parent}:{os.environ['PATH']}")
    return made


def variables(archive: Path) -> dict[str, str]:
    return {"ASTRO_CLI_VERSION": "1.43.0", "ASTRO_CLI_SHA256": hashlib.sha256(archive.read_bytes()).hexdigest()}


def test_an_archive_with_the_right_checksum_is_installed(tmp_path: Path, archive: Path) -> None:
    installed = install(tmp_path / "to", variables(archive))
    assert installed.read_text() == "tool"
    assert os.access(installed, os.X_OK)
    assert (tmp_path / "address").read_text().strip() == (
        "https://github.com/astronomer/astro-cli/releases/download/v1.43.0/astro_1.43.0_linux_amd64.tar.gz"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ASTRO_CLI_VERSION": ""}, "ASTRO_CLI_VERSION is '': set it"),
        ({"ASTRO_CLI_VERSION": "latest"}, "ASTRO_CLI_VERSION is 'latest'"),
        ({"ASTRO_CLI_VERSION": "../../evil"}, "ASTRO_CLI_VERSION"),
        ({"ASTRO_CLI_SHA256": ""}, "ASTRO_CLI_SHA256 is no SHA-256"),
        ({"ASTRO_CLI_SHA256": "  "}, "ASTRO_CLI_SHA256 is no SHA-256"),
    ],
)
def test_without_valid_variables_nothing_is_downloaded(
    tmp_path: Path, archive: Path, change: dict[str, str], message: str
) -> None:
    with pytest.raises(Refused, match=message):
        install(tmp_path / "to", variables(archive) | change)
    assert not (tmp_path / "address").exists()


def test_a_changed_archive_is_refused(tmp_path: Path, archive: Path) -> None:
    settings = variables(archive)
    with archive.open("ab") as file:
        file.write(b"!")
    with pytest.raises(Refused, match="do not use it"):
        install(tmp_path / "to", settings)
    assert not (tmp_path / "to" / "astro").exists()


def test_an_archive_without_the_cli_is_refused(tmp_path: Path, archive: Path) -> None:
    with tarfile.open(archive, "w:gz"):
        pass
    with pytest.raises(Refused, match="no file `astro`"):
        install(tmp_path / "to", variables(archive))
