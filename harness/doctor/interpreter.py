"""The Python that runs the harness, and whether the installed packages are those that it was written for."""

import os
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from harness.doctor.finding import Finding

PACKAGE = "dasd-harness"
PIP = "python -m pip install"


def python() -> Iterator[Finding]:
    """The interpreter's version against the package's own range, and the virtual environment."""
    wanted = SpecifierSet(distribution(PACKAGE).metadata["Requires-Python"] or "")
    own = platform.python_version()
    inside = sys.prefix != sys.base_prefix
    where = f"virtual environment {shortened(Path(sys.prefix))}" if inside else "no virtual environment"
    fits = wanted.contains(own, prereleases=True)
    yield Finding(
        area="Python",
        name="Python",
        state="ok" if fits else "missing",
        found=f"{own}, {where}" if fits else f"{own}, and {wanted} is needed",
        remedy="" if fits else f"make a virtual environment with Python {wanted}, and install there",
    )


def packages() -> Iterator[Finding]:
    """What the package itself requires, each version against its range."""
    requirements = required("")
    wrong = faults(requirements)
    yield Finding(
        area="Python",
        name="packages",
        state="missing" if wrong else "ok",
        found="; ".join(wrong.values()) or f"all {len(requirements)} in the versions that are required",
        remedy=f"{PIP} {' '.join(map(repr, wrong))}" if wrong else "",
    )


def required(extra: str) -> list[Requirement]:
    """The requirements of the package that hold here; with an extra, those that it adds."""
    every = [Requirement(line) for line in distribution(PACKAGE).requires or ()]
    own = [one for one in every if one.marker is None or one.marker.evaluate({"extra": ""})]
    if not extra:
        return own
    return [one for one in every if one not in own and one.marker and one.marker.evaluate({"extra": extra})]


def faults(requirements: list[Requirement]) -> dict[str, str]:
    """For each requirement that is not met, what is wrong, by what pip would be given."""
    wrong = {}
    for one in requirements:
        wanted = f"{one.name}{one.specifier}"
        try:
            there = version(one.name)
        except PackageNotFoundError:
            wrong[wanted] = f"{one.name} is not installed"
            continue
        if not one.specifier.contains(there, prereleases=True):
            wrong[wanted] = f"{one.name} {there} is installed, and {one.specifier} is needed"
    return wrong


def shortened(path: Path) -> str:
    """A path as a person would write it: below the working directory, below the home, else whole."""
    here, home = Path.cwd(), Path(os.path.expanduser("~"))
    if path == here or not path.is_absolute():
        return str(path)
    if path.is_relative_to(here):
        return str(path.relative_to(here))
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
