"""Follows a how-to as a reader would: adds its file to a fresh clone, runs its commands, compares the output.

In a page, a block with a path as its title is the file; a `console` block holds commands behind `$ ` (`> `
goes on with one) and what each prints. `…` in a line stands for anything, alone on a line for any lines;
white space counts as one blank.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE = re.compile(r'^```python title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ANYTHING = "…"


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


def read_page(file: Path) -> Page:
    """Raises ValueError unless the page shows exactly one file."""
    text = file.read_text(encoding="utf-8")
    [(path, content)] = FILE.findall(text)
    steps = tuple(step for block in CONSOLE.findall(text) for step in steps_of(block))
    return Page(path=path, content=content, steps=steps)


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


def follow(page: Page, clone: Path, commands: int | None = None) -> list[str]:
    """What went otherwise than the page says; the first `commands` of it, or all.

    A step that fails ends it: the next would fail for its sake.
    """
    target = clone / page.path
    if target.exists():
        return [f"{page.path} is there already"]
    target.write_text(page.content, encoding="utf-8")
    for step in page.steps[:commands]:
        print(f"$ {step.command}", flush=True)
        done = run(step.command, clone)
        print(done.stdout, flush=True)
        if done.returncode:
            return [f"`{step.command}` ended with {done.returncode}:\n{done.stdout}"]
        if not is_as_told(step.expected, done.stdout.splitlines()):
            told = "\n".join(step.expected)
            return [f"`{step.command}` was to print\n{told}\nand printed\n{done.stdout}"]
    added = run("git status --porcelain --untracked-files=all", clone).stdout.splitlines()
    return [] if added == [f"?? {page.path}"] else [f"one file was to be added: {added}"]


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


def is_as_told(expected: Sequence[str], printed: Sequence[str]) -> bool:
    """Whether the printed lines are those expected, from the first to the last."""
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == ANYTHING else line_pattern(line) + r"\n" for line in expected
    )
    text = "".join(blanks_as_one(line) + "\n" for line in printed)
    return re.fullmatch(pattern, text) is not None


def line_pattern(line: str) -> str:
    return " ?.*? ?".join(re.escape(part.strip(" ")) for part in blanks_as_one(line).split(ANYTHING))


def blanks_as_one(line: str) -> str:
    return " ".join(line.split())
