"""Run every measurement of this folder: the modules with a function `main`, those of the datasets included."""

from importlib import import_module
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def main() -> None:
    """Run one after the other."""
    for path in sorted(FOLDER.rglob("*.py")):
        if path != Path(__file__):
            module = import_module(".".join(path.relative_to(FOLDER.parent).with_suffix("").parts))
            if hasattr(module, "main"):
                module.main()


if __name__ == "__main__":
    main()
