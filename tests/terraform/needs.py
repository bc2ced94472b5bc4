"""Report what the infrastructure tests need in addition to the locked environment."""

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skip the test, or fail it if AIRLOCK_TERRAFORM_REQUIRED=1 forbids skipping."""
    message = f"missing: {what}"
    if os.environ.get("AIRLOCK_TERRAFORM_REQUIRED") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
