import json
import stat
import subprocess
import sys

import pytest

from local.state import ROOT, LocalError, State, write_private

HOLD = """
import sys
from pathlib import Path
from local.state import State
with State(Path(sys.argv[1])).running():
    print("held", flush=True)
    sys.stdin.read()
"""


def holding(state: State) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(state.folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_secrets_are_generated_once_and_only_their_owner_can_read_them(own_state: State) -> None:
    generated = own_state.secrets
    assert State(own_state.folder).secrets == generated
    assert len(set(generated.values())) == len(generated)
    assert min(map(len, generated.values())) >= 43
    assert stat.S_IMODE((own_state.folder / "secrets.json").stat().st_mode) == 0o600


def test_a_secret_that_a_newer_version_needs_is_added(own_state: State) -> None:
    generated = own_state.secrets
    write_private(own_state.folder / "secrets.json", json.dumps({"postgres": generated["postgres"]}))
    added = State(own_state.folder).secrets
    assert added["postgres"] == generated["postgres"]
    assert added.keys() == generated.keys()


def test_a_second_platform_is_refused_with_the_process_that_runs(own_state: State) -> None:
    with holding(own_state) as holder:
        assert own_state.holder() == holder.pid
        with pytest.raises(LocalError, match=rf"already running \(process {holder.pid}\)"), own_state.running():
            pass
        holder.communicate()
    assert own_state.holder() is None
    with own_state.running():
        pass


def test_a_killed_holder_releases_the_lock(own_state: State) -> None:
    with holding(own_state) as holder:
        holder.kill()
    with own_state.running():
        pass
