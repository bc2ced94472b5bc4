"""A stand-in for the programs that workflows call. It records each call, refuses unknown flags, and fails on request.

It is installed under the names of the programs, in a folder next to `calls.jsonl`, which lists every call.
`answers.json` has the output of some calls. `fail` has a pattern of the calls that fail.
"""

import argparse
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import NoReturn

FOLDER = Path(os.path.abspath(sys.argv[0])).parent.parent  # noqa: PTH100 - must not follow links


class Flags(argparse.ArgumentParser):
    """The flags of one command; the program exits with status 64 on any other flag."""

    def __init__(self, *valued: str, switches: tuple[str, ...] = (), words: str = "*") -> None:
        super().__init__(add_help=False, allow_abbrev=False)
        for flag in valued:
            self.add_argument(*flag.split("|"), dest=flag.split("|")[0].strip("-"), action="append")
        for flag in switches:
            self.add_argument(*flag.split("|"), dest=flag.split("|")[0].strip("-"), action="store_true")
        self.add_argument("words", nargs=words)

    def error(self, message: str) -> NoReturn:
        stop(64, message)


def stop(status: int, message: str) -> NoReturn:
    print(f"stand-in: {message}", file=sys.stderr)
    sys.exit(status)


# The flags in `astro deploy --help` and `astro deployment inspect|wake-up --help` of version 1.43.
ASTRO_DEPLOY = Flags(
    "--workspace-id", "--env|-e", "--test|-t", "--image-name|-i", "--dags-path", "--deployment-name|-n", "--wait-time",
    "--description", "--build-secrets", "--verbosity",
    switches=("--force|-f", "--prompt|-p", "--save|-s", "--pytest", "--dags|-d", "--no-dags-base-dir", "--image",
              "--parse", "--wait|-w"),
    words="?",
)  # fmt: skip
ASTRO_INSPECT = Flags(
    "--deployment-name|-n", "--output|-o", "--key|-k", "--workspace-id", "--verbosity",
    switches=("--template|-t", "--clean-output|-c", "--show-workload-identity"), words="?",
)  # fmt: skip
ASTRO_WAKE_UP = Flags(
    "--deployment-name|-n", "--until|-u", "--for|-d", "--workspace-id", "--verbosity",
    switches=("--remove-override|-r", "--force|-f"), words="?",
)  # fmt: skip
GH_API = Flags(
    "--jq|-q", "--method|-X", "--input", "--header|-H", "--raw-field|-f", "--field|-F", "--template|-t", "--cache",
    "--hostname", "--preview|-p",
    switches=("--paginate", "--slurp", "--silent", "--include|-i", "--verbose"), words="?",
)  # fmt: skip
CURL = Flags(
    "--output|-o", "--proto", "--retry", "--max-time|-m",
    switches=("--fail|-f", "--silent|-s", "--show-error|-S", "--location|-L"), words="?",
)  # fmt: skip
DOCKER_BUILD = Flags("--tag|-t", "--file|-f", "--platform", switches=("--pull", "--no-cache"), words="?")
# Flags of Terraform have one dash, and `=` before their value.
_COMMON = {"-no-color", "-input", "-lock", "-lock-timeout", "-var", "-var-file"}
TERRAFORM = {
    "init": {*_COMMON, "-backend", "-backend-config", "-reconfigure", "-upgrade", "-lockfile", "-get", "-json"},
    "plan": {
        *_COMMON,
        "-detailed-exitcode",
        "-out",
        "-destroy",
        "-refresh",
        "-refresh-only",
        "-target",
        "-parallelism",
    },
    "apply": {*_COMMON, "-auto-approve", "-destroy", "-refresh", "-target", "-parallelism", "-compact-warnings"},
    "output": {"-no-color", "-raw", "-json", "-state"},
    "version": {"-json"},
}


def answer(call: str) -> str:
    """Return the output of a call: the answer with the longest key that the call starts with."""
    answers = json.loads((FOLDER / "answers.json").read_text())
    keys = sorted((key for key in answers if call.startswith(key)), key=len)
    return str(answers[keys[-1]]) if keys else ""


def astro(words: list[str]) -> None:
    if not os.environ.get("ASTRO_API_TOKEN"):
        stop(1, "no ASTRO_API_TOKEN")
    tag = FOLDER / "tag"
    if words[:1] == ["deploy"]:
        flags = ASTRO_DEPLOY.parse_args(words[1:])
        if flags.__dict__["wait-time"] and not flags.wait:
            stop(1, "cannot use --wait-time with --wait=false")
        if flags.dags and flags.image:
            stop(1, "cannot use both --dags and --image together")
        if not Path("Dockerfile").is_file():
            stop(1, "this is not an Astro project directory")
        print("Using an Astro API Token")
        silent = (FOLDER / "silent").read_text() if (FOLDER / "silent").exists() else ""
        # In these cases the CLI prints the reason and exits with status 0, but deploys nothing.
        if silent == "uncommitted":
            print("Project directory has uncommitted changes, use `astro deploy [deployment-id] -f` to force deploy.")
        elif silent == "other-workspace" or not flags.__dict__["workspace-id"]:
            print("Invalid workspace id was provided through the --workspace-id flag")
        elif flags.dags:
            print("Successfully uploaded DAGs with version 2026-01-01T00:00:00Z to Astro.")
        else:
            if silent != "same-image":
                tag.write_text(f"deploy-{len((FOLDER / 'calls.jsonl').read_text())}")
            print("Successfully pushed image to Astronomer registry.")
    elif words[:2] == ["deployment", "inspect"]:
        key = ASTRO_INSPECT.parse_args(words[2:]).key[0]
        print(tag.read_text() if key == "metadata.current_tag" and tag.exists() else answer(f"astro {key}"))
    elif words[:2] == ["deployment", "wake-up"]:
        ASTRO_WAKE_UP.parse_args(words[2:])
    else:
        stop(64, f"astro has no such command: {words}")


def terraform(words: list[str]) -> None:
    rest = [word for word in words if not word.startswith("-chdir=")]
    command, *flags = rest
    if command not in TERRAFORM:
        stop(64, f"terraform has no such command: {command}")
    for flag in flags:
        if flag.startswith("-") and flag.partition("=")[0] not in TERRAFORM[command]:
            stop(64, f"terraform {command} has no flag {flag}")
    if command in ("plan", "apply") and not os.environ.get("ASTRO_API_TOKEN"):
        stop(1, "the astro provider has no ASTRO_API_TOKEN")
    after_apply = FOLDER / "outputs-after-apply"
    if command == "apply" and after_apply.exists():
        answers = json.loads((FOLDER / "answers.json").read_text())
        (FOLDER / "answers.json").write_text(json.dumps(answers | {"terraform output -json": after_apply.read_text()}))
    print(answer(f"terraform {' '.join(words)}") or answer(f"terraform {' '.join(rest)}"), end="")
    if command == "plan" and "-detailed-exitcode" in flags:
        sys.exit(int(answer("plan status") or 0))


def gh(words: list[str]) -> None:
    if words[:1] != ["api"] or not os.environ.get("GH_TOKEN"):
        stop(64, f"gh cannot do this: {words}")
    flags = GH_API.parse_args(words[1:])
    if flags.input:
        (FOLDER / "posted.json").write_text(sys.stdin.read())
    print(answer(f"gh {flags.words}"), end="")


def curl(words: list[str]) -> None:
    shutil.copy(FOLDER / "astro.tar.gz", CURL.parse_args(words).output[0])


def docker(words: list[str]) -> None:
    if words[:1] != ["build"]:
        stop(64, f"docker cannot do this: {words}")
    DOCKER_BUILD.parse_args(words[1:])


def main() -> None:
    name, words = Path(sys.argv[0]).name, sys.argv[1:]
    call = " ".join([name, *words])
    with (FOLDER / "calls.jsonl").open("a") as calls:
        calls.write(
            json.dumps({"call": [name, *words], "secrets": sorted({"ASTRO_API_TOKEN"} & set(os.environ))}) + "\n"
        )
    failing = FOLDER / "fail"
    if failing.exists() and re.match(failing.read_text(), call):
        stop(1, f"this call fails on request: {call}")
    {"astro": astro, "terraform": terraform, "gh": gh, "curl": curl, "docker": docker}[name](words)


if __name__ == "__main__":
    main()
