"""Install one version of the Astro CLI after a check of its checksum: python3 -m scripts.install_astro FOLDER

ASTRO_CLI_VERSION is the version; ASTRO_CLI_SHA256 is the SHA-256 of its archive for Linux on amd64, from the file
astro_VERSION_checksums.txt of the release. Standard library only: it runs before anything is installed.
"""

import hashlib
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

RELEASES = "https://github.com/astronomer/astro-cli/releases/download"


class Refused(Exception):
    """Raised when the CLI is not installed; the text says why and what to do."""


def install(folder: Path, environment: Mapping[str, str]) -> Path:
    """Download, check and unpack the CLI; returns its path."""
    version, wanted = (environment.get(name, "").strip() for name in ("ASTRO_CLI_VERSION", "ASTRO_CLI_SHA256"))
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise Refused(f"The repository variable ASTRO_CLI_VERSION is {version!r}: set it, such as 1.43.0")
    listed = f"{RELEASES}/v{version}/astro_{version}_checksums.txt"
    if not re.fullmatch("[0-9a-f]{64}", wanted):
        raise Refused(
            "The repository variable ASTRO_CLI_SHA256 is no SHA-256: set it to the checksum of "
            f"astro_{version}_linux_amd64.tar.gz in {listed}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as temporary:
        archive = Path(temporary) / "astro.tar.gz"
        address = f"{RELEASES}/v{version}/astro_{version}_linux_amd64.tar.gz"
        options = ["--fail", "--silent", "--show-error", "--location", "--proto", "=https", "--retry", "3"]
        command = ["curl", *options, "--output", str(archive), address]
        if subprocess.run(command, check=False).returncode:
            raise Refused(f"{address} could not be downloaded (see above).")
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != wanted:
            raise Refused(
                f"The archive of the Astro CLI {version} has the SHA-256 {found}, not {wanted}. If both variables are "
                f"of the same version (see {listed}), the archive was changed: do not use it."
            )
        with tarfile.open(archive) as tar:
            try:
                tar.extract("astro", folder, filter="data")
            except KeyError:
                raise Refused("The archive has no file `astro`.") from None
    return folder / "astro"


def main() -> int:
    """Install the CLI and add it to the PATH of the later steps; returns the exit status."""
    try:
        installed = install(Path(sys.argv[1]).absolute(), os.environ)
    except Refused as error:
        print(f"::error title=Astro CLI refused::{error}")
        return 1
    print(f"Astro CLI {os.environ['ASTRO_CLI_VERSION']}: {installed}, its checksum is correct")
    if path := os.environ.get("GITHUB_PATH"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{installed.parent}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
