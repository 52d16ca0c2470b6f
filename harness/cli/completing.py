"""What a shell offers where a recipe, a benchmark, an engine, a run or a row is expected.

Importing the pipeline takes a second, too long for a key. So the names are kept in the user's cache, and
looked up anew where a file that may define some has changed. Runs are folders, and are always looked up.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem, split_arg_string

Names = dict[str, Any]
Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

ROOT = Path(__file__).parent.parent.parent
DEFINING = ("pipeline", "benchmarks", "harness/engines")
CACHE = "completion.json"
HARMLESS = re.compile(r"[\w./@:+-]+")


def recipe(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    return beginning(names()["recipes"], begun)


def benchmark(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    return beginning(names()["benchmarks"], begun)


def recipe_or_benchmark(
    context: click.Context, parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    return beginning([*names()["recipes"], *names()["benchmarks"]], begun)


def engine(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    return beginning(names()["engines"], begun)


def environment(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    return beginning(names()["environments"], begun)


def entry(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Where the recipe that was named may start from; of none yet, where any may."""
    known = names()["recipes"]
    return beginning(dict.fromkeys(one for name in named(known) for one in known[name]["entries"]), begun)


def stage(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The stages of the recipe that was named."""
    known = names()["recipes"]
    return beginning(dict.fromkeys(one for name in named(known) for one in known[name]["stages"]), begun)


def named(known: Iterable[str]) -> list[str]:
    """Those of the known words that stand on the line, else all of them.

    Of a line that ends in an option without its value, click parses no argument.
    """
    words = split_arg_string(os.environ.get("COMP_WORDS", ""))
    return [word for word in words if word in known] or list(known)


def claim(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """RECIPE/ROW of a recipe's report."""
    known = names()["recipes"]
    return beginning([f"{name}/{row}" for name, one in known.items() for row in one["rows"]], begun)


def run(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """A recipe, or a run of the runs folder."""
    return beginning(dict.fromkeys([*runs_of(context), *names()["recipes"]]), begun)


def run_or_row(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """A run of the runs folder; once its name is there, RUN/ROW."""
    found = runs_of(context)
    name, slash, _ = begun.partition("/")
    if slash:
        return beginning([f"{name}/{row}" for row in found.get(name, ())], begun)
    return beginning(found, begun)


def checkpoint(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """A row of a recipe or of a run; else a folder, which the shell knows how to complete."""
    rows = claim(context, parameter, begun) + beginning(rows_of(context), begun)
    return rows or [CompletionItem(begun, type="dir")]


def selection(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """RUN/LABEL of a stage that selects."""
    labels = folder_of(context).glob("*/*-selected*")
    return beginning([f"{one.parent.name}/{one.name.partition('-')[2]}" for one in sorted(labels)], begun)


def beginning(known: Iterable[str], begun: str) -> list[CompletionItem]:
    """The names that begin like that. One that a shell or a terminal would take for more is left out."""
    return [CompletionItem(one) for one in known if one.startswith(begun) and HARMLESS.fullmatch(one)]


def folder_of(context: click.Context) -> Path:
    """The runs folder that the words before say, else the usual one."""
    given = context.params.get("runs")
    return given if isinstance(given, Path) else Path("runs")


def runs_of(context: click.Context) -> dict[str, list[str]]:
    """The rows of each run that holds evaluations. `harness.runs` knows the same, and takes a second."""
    found: dict[str, list[str]] = {}
    for row in sorted(folder_of(context).glob("*/eval/*")):
        found.setdefault(row.parent.parent.name, []).append(row.name)
    return found


def rows_of(context: click.Context) -> Iterator[str]:
    return (f"{name}/{row}" for name, rows in runs_of(context).items() for row in rows)


def names() -> Names:
    """All names that the packages define: from the cache, where it is of these very files."""
    from platformdirs import user_cache_path

    kept, of = user_cache_path("dasd-harness") / CACHE, version()
    with suppress(OSError, ValueError):
        found = json.loads(kept.read_bytes())
        if isinstance(found, dict) and found.get("of") == of:
            return found
    found = {"of": of, **defined()}
    with suppress(OSError):
        from harness.files import write_whole

        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, json.dumps(found).encode())
    return found


def version() -> str:
    """Changes with every file that may define a name."""
    files = [ROOT / "harness/setup.py", *(file for part in DEFINING for file in (ROOT / part).rglob("*.py"))]
    told = sorted((str(file), file.stat().st_mtime_ns) for file in files)
    return sha256(repr(told).encode()).hexdigest()[:16]


def defined() -> Names:
    """The names, looked up where they are defined."""
    from harness.cli.found import benchmarks, recipes
    from harness.discover import engines
    from harness.setup import ENVIRONMENTS

    return {
        "recipes": {
            name: {"entries": list(one.entries), "rows": list(one.models), "stages": list(one.stages)}
            for name, one in recipes().items()
        },
        "benchmarks": list(benchmarks()),
        "engines": list(engines()),
        "environments": [*ENVIRONMENTS, "sandbox"],
    }
