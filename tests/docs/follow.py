"""Follows a how-to as a reader would: adds its file to a fresh clone, runs its commands, compares the output.

In a page, a block with a path as its title is the file; a `console` block holds commands behind `$ ` (`> `
goes on with one) and what each prints. `…` in a line stands for anything, alone on a line for any lines;
white space counts as one blank. Where a page shows measured figures, another number in a number's place is as
told, and so is a table of another width.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE = re.compile(r'^```python title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ANYTHING = "…"
NUMBER = re.compile(r"(?:\\?[-+])?\d[\d,]*(?:\\?\.\d+)?[KMG]?")


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command and the lines that it is said to print."""

    command: str
    expected: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Page:
    """A how-to: one file to add, at a path of the repository, and what to do then."""

    path: str
    content: str
    steps: tuple[Step, ...]
    figures: bool = False


def read_page(file: Path, figures: bool = False) -> Page:
    """Raises ValueError unless the page shows exactly one file. `figures`: its numbers are measured ones."""
    text = file.read_text(encoding="utf-8")
    [(path, content)] = FILE.findall(text)
    steps = tuple(step for block in CONSOLE.findall(text) for step in steps_of(block))
    return Page(path=path, content=content, steps=steps, figures=figures)


def steps_of(block: str) -> Iterator[Step]:
    command: list[str] = []
    expected: list[str] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            if command:
                yield Step(command="\n".join(command), expected=tuple(expected))
            command, expected = [line[2:]], []
        elif line.startswith(">") and not expected:
            command.append(line[1:].removeprefix(" "))
        else:
            expected.append(line)
    yield Step(command="\n".join(command), expected=tuple(expected))


def fresh_clone(folder: Path) -> Path:
    """What is committed here, and nothing else."""
    subprocess.run(["git", "clone", "--quiet", "--local", str(ROOT), str(folder)], check=True)
    return folder


def follow(page: Page, clone: Path, commands: int | None = None, beside: Sequence[str] = ()) -> list[str]:
    """What went otherwise than the page says; the first `commands` of it, or all.

    A step that fails ends it: the next would fail for its sake. `beside` are files that the commands write
    beside the one to add.
    """
    target = clone / page.path
    if target.exists():
        return [f"{page.path} is there already"]
    target.write_text(page.content, encoding="utf-8")
    for step in page.steps[:commands]:
        print(f"$ {step.command}", flush=True)
        started = time.monotonic()
        done = run(step.command, clone)
        print(f"{done.stdout}[{time.monotonic() - started:.0f} s]", flush=True)
        if done.returncode:
            return [f"`{step.command}` ended with {done.returncode}:\n{done.stdout}"]
        if not is_as_told(step.expected, done.stdout.splitlines(), page.figures):
            told = "\n".join(step.expected)
            return [f"`{step.command}` was to print\n{told}\nand printed\n{done.stdout}"]
    added = run("git status --porcelain --untracked-files=all", clone).stdout.splitlines()
    wanted = sorted(f"?? {path}" for path in (page.path, *beside))
    return [] if sorted(added) == wanted else [f"one file was to be added: {added}"]


def run(command: str, clone: Path) -> "subprocess.CompletedProcess[str]":
    """In the clone, with the clone's packages before those that are installed."""
    own = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-c", command],
        cwd=clone,
        env={**os.environ, "PATH": own, "PYTHONPATH": str(clone)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        check=False,
    )


def is_as_told(expected: Sequence[str], printed: Sequence[str], figures: bool = False) -> bool:
    """Whether the printed lines are those expected, from the first to the last."""
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == ANYTHING else line_pattern(line, figures) + r"\n"
        for line in expected
    )
    text = "".join(plain(line) + "\n" for line in printed)
    return re.fullmatch(pattern, text) is not None


def line_pattern(line: str, figures: bool) -> str:
    parts = [re.escape(part.strip(" ")) for part in plain(line).split(ANYTHING)]
    found = " ?.*? ?".join(parts)
    return NUMBER.sub(lambda _: NUMBER.pattern, found) if figures else found


def plain(line: str) -> str:
    """White space as one blank, and a table's rules of whatever length as one sign."""
    return " ".join(re.sub(r"([━─])\1+", r"\1", line).split())
