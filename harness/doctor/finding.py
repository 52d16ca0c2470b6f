"""Finding: what one look at this machine showed, and what cannot be done without it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

State = Literal["ok", "warning", "missing"]
Area = Literal["Python", "machine", "sandbox", "GPUs", "engines", "data", "keys", "network", "cluster"]

SECONDS = 10.0  # that a check may take; all of them run at once


@dataclass(frozen=True, kw_only=True)
class Purpose:
    """Something to do on this machine: the command, and the names of what it needs.

    `disk` is in bytes of the runs folder. `gpus` says which models find too little GPU memory here, with what
    they need.
    """

    command: str
    needs: frozenset[str] = frozenset()
    disk: float = 0.0
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`found` is what is there, `remedy` a command or a setting that would mend it.

    `provides` are the names by which purposes need it; none: everything needs it. `blocks` are the commands
    of the purposes that cannot run where it is missing.
    """

    area: Area
    name: str
    state: State
    found: str
    remedy: str = ""
    provides: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Check:
    """A look at one thing. What could not be looked at provides nothing: then `provides` is missing."""

    area: Area
    name: str
    look: Callable[[], Iterable[Finding]]
    provides: tuple[str, ...] = ()
    seconds: float = SECONDS


def concerns(provides: tuple[str, ...], purpose: Purpose | None) -> bool:
    """Whether something matters for a purpose; without one everything does."""
    return purpose is None or not provides or bool(purpose.needs.intersection(provides))


def judged(finding: Finding, purposes: Iterable[Purpose]) -> Finding:
    """The finding with the commands that it blocks where it is missing: those of all purposes that need it,
    unless the check itself has named some."""
    if finding.state != "missing" or finding.blocks:
        return finding
    lost = tuple(one.command for one in purposes if concerns(finding.provides, one))
    return replace(finding, blocks=lost)


def blocking(findings: Iterable[Finding], purpose: Purpose) -> list[Finding]:
    """What keeps a purpose from running here."""
    return [one for one in findings if one.state == "missing" and purpose.command in one.blocks]
