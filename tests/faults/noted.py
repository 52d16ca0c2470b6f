"""`harness …` as ever, with a note of the modules that it had loaded in the end, for forks to have them.

python -m tests.faults.noted MODULES report tiny …
"""

import importlib
import sys
from contextlib import suppress
from pathlib import Path


def load_modules(told: Path) -> None:
    """Loads here what a command had loaded in the end: what is forked from now on finds it there."""
    for name in told.read_text(encoding="utf-8").splitlines():
        if name.partition(".")[0] not in ("__main__", "__mp_main__"):
            with suppress(ImportError):
                importlib.import_module(name)


def main() -> None:
    told = Path(sys.argv[1])
    sys.argv = ["harness", *sys.argv[2:]]
    from harness.cli import main

    try:
        main()
    finally:
        told.write_text("\n".join(sorted(sys.modules)), encoding="utf-8")


if __name__ == "__main__":
    main()
