"""`python -m harness.cli`."""

from harness.cli import main

try:
    main()
finally:
    # Where a signal met the `exec` of an import (a dataclass's), Python 3.11 to 3.13 keeps that in mind and
    # ends a `python -m` by SIGINT, whatever its exit code. Another `exec` makes it forget.
    exec("")  # noqa: S102
