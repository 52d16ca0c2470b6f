"""Prints the file that lighteval's --custom-tasks wants.

    lighteval endpoint litellm … --custom-tasks "$(python -m benchmarks.lighteval_tasks)"

`--offline PYTHON` makes lighteval start without a network: see docs/lighteval.md.
"""

import argparse
from pathlib import Path

from benchmarks.lighteval_tasks.offline import stand_in

TASKS = Path(__file__).with_name("tasks.py")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lighteval_tasks", description=__doc__)
    parser.add_argument(
        "--offline", type=Path, metavar="PYTHON", help="the interpreter of lighteval's environment"
    )
    options = parser.parse_args()
    if options.offline is not None:
        stand_in(options.offline)
    print(TASKS)


if __name__ == "__main__":
    main()
