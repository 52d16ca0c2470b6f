"""What a reader needs to do a page again: the command, pins, hashes, versions, machines, prompts as sent."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.asking import PROMPT
from harness.evaluate import Ask, Mark
from harness.hub import UNPINNED, Lock
from harness.preflight import FILE as PREFLIGHT
from harness.recipe import Recipe
from harness.runs import Stored, commands_behind
from harness.session import SESSION
from harness.stage import Json, Stage, ordered
from harness.store import RunStore
from reports.discreet import command_line, discreet
from reports.names import names_of
from reports.page import Cell, Section
from reports.plots import clean
from reports.stage_facts import load

REPOSITORIES = ("repo", "dataset", "source")
HASHED = ("grades.jsonl", "questions.jsonl", "divergence.jsonl", "losses.json", "model/model.safetensors")
LARGEST = 32_000_000
"""Bytes of a file that a report hashes: those of a large run would take minutes each time."""

PLACE = (
    "Add --machine, --data and --runs as they are on your machine. What is finished is not done again: give "
    "--runs an empty folder to do everything afresh."
)
ADDRESS = " URL stands for the address of the server, which no page tells."


def provenance_sections(
    store: RunStore, recipe: Recipe, labels: Mapping[str, Stage], sensitive: bool = False
) -> Iterator[Section]:
    """Every section of this part of the page, each where there is something to say."""
    stages = ordered(list(labels.values()))
    done = [stage for stage in stages if store.state(stage) == "done"]
    names = names_of(labels)
    yield command_section(store, recipe, sensitive)
    for section in (
        pins_section(stages, names, commits(store, done, Lock())),
        engines_section(store, done, names),
        machines_section(store, done, names),
        packages_section(store, done, names),
        hashes_section(store, done, names),
    ):
        if section.rows:
            yield section
    yield from prompt_sections(store, labels)


# The command --------------------------------------------------------------------------------


def command_section(store: RunStore, recipe: Recipe, sensitive: bool) -> Section:
    """The commands that made this page, one a line."""
    commands = list(commands_behind(store, recipe))
    if not commands and not any(isinstance(row.model, Stored) for row in recipe.models.values()):
        commands = [reproduction(recipe)]
    told = [command_line(map(discreet, command)) for command in commands]
    if told and sensitive:
        told.append(command_line(("harness", "report", recipe.name, "--sensitivity")))
    served = any("--base-url" in line for line in told)
    note = (
        PLACE + ADDRESS * served
        if told
        else "The version of the harness that made this run did not write its command down."
    )
    return Section(
        title="The command that reproduces this page", note=note, copyable="\n".join(told), group="provenance"
    )


def reproduction(recipe: Recipe) -> tuple[str, ...]:
    """The command that makes a recipe's run: from which entry, and on which engine where it has several."""
    name, _, entry = recipe.name.partition("-from-")
    way_in = ("--from", entry) if entry else ()
    return ("harness", "reproduce", name, *way_in, *(("--engine", recipe.engine) if recipe.make else ()))


# Pins and hashes ----------------------------------------------------------------------------


def commits(store: RunStore, done: Sequence[Stage], lock: Lock) -> dict[str, str]:
    """What unpinned repositories were taken from: by harness.lock, and of checkpoints by their own record."""
    found = {
        name: f"harness.lock: {told['revision']}" for name, told in lock.read().items() if "revision" in told
    }
    for stage in done:
        if (store.path(stage) / "source.json").is_file():
            told = load(store.path(stage) / "source.json")
            found[told["source"]] = f"taken from: {told['origin']}"
    return found


def pins_section(stages: Sequence[Stage], names: Mapping[str, str], taken: Mapping[str, str]) -> Section:
    """Every repository that anything here comes from, at which commit, and what pins it where none does."""
    found: dict[tuple[str, str, str], dict[str, None]] = {}
    for stage in stages:
        for pin in pins_in(stage.identity):
            found.setdefault(pin, {})[names[stage.key]] = None
    rows: list[list[Cell]] = []
    for (name, revision, sha256), readers in found.items():
        where = taken.get(name) if revision == UNPINNED else None
        pinned = f"{UNPINNED}; {where}" if where else revision or None
        rows.append([discreet(clean(name)), pinned, sha256 or None, several(list(readers))])
    return Section(
        title="Pins",
        columns=("data set or model", "revision", "SHA-256 of its content", "read by"),
        rows=rows,
        note="unpinned: no commit could be looked up when this was written; the first download resolves one "
        "and writes it into harness.lock. A local copy of a benchmark is checked row by row instead.",
        group="provenance",
    )


def pins_in(value: Json) -> Iterator[tuple[str, str, str]]:
    """Name, revision and content hash of each repository that an identity names, however deep."""
    if isinstance(value, list):
        for item in value:
            yield from pins_in(item)
    if isinstance(value, dict):
        name = next((value[key] for key in REPOSITORIES if isinstance(value.get(key), str)), None)
        if name and ("revision" in value or "sha256" in value):
            yield name, str(value.get("revision", "")), str(value.get("sha256", ""))
        for item in value.values():
            yield from pins_in(item)


def hashes_section(store: RunStore, done: Sequence[Stage], names: Mapping[str, str]) -> Section:
    """SHA-256 of what each stage left, as far as its files are small enough."""
    rows: list[list[Cell]] = []
    for stage in done:
        for name in HASHED:
            file = store.path(stage) / name
            if file.is_file():
                small = file.stat().st_size <= LARGEST
                rows.append([names[stage.key], name, file.stat().st_size, sha256(file) if small else None])
    return Section(
        title="Hashes of results",
        columns=("stage", "file", "bytes", "SHA-256"),
        rows=rows,
        note=f"Files of more than {LARGEST // 10**6} MB are not hashed here. Responses are left out: they "
        "hold times and request ids, and are never the same bytes twice.",
        group="provenance",
        folded=True,
    )


def sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


# Versions and machines ----------------------------------------------------------------------


def engines_section(store: RunStore, done: Sequence[Stage], names: Mapping[str, str]) -> Section:
    """What wrote rows or computed scores, as session.json beside them says."""
    settings: dict[str, None] = {}
    found: list[tuple[str, dict[str, str]]] = []
    for stage in done:
        for file in sorted(store.path(stage).glob(f"**/{SESSION}")):
            told = load(file)
            settings |= dict.fromkeys(told)
            found.append((names[stage.key], told))
    first = [name for name in settings if name in ("engine", "version")]
    order = first + [name for name in settings if name not in first]
    return grouped(
        "Engines",
        order,
        [
            (name, [discreet(clean(str(told[key]))) if key in told else None for key in order])
            for name, told in found
        ],
    )


MACHINE: tuple[tuple[str, Callable[[Mapping[str, Any]], Cell]], ...] = (
    ("processor", lambda told: f"{told['cpu']}, {told['cores']} cores"),
    ("memory", lambda told: f"{told['memory_gb']:g} GB"),
    ("GPUs", lambda told: f"{told['gpus']} × {told['gpu'] or 'GPU'}" if told["gpus"] else "none"),
    ("system", lambda told: told["system"]),
    ("Python", lambda told: told["python"]),
    ("harness", lambda told: told["harness"]),
)


def machines_section(store: RunStore, done: Sequence[Stage], names: Mapping[str, str]) -> Section:
    """Where each stage was finished."""
    found = workplaces(store, done, names)
    return grouped(
        "Machines and code",
        [name for name, _ in MACHINE],
        [(stage, [tell(told) for _, tell in MACHINE]) for stage, told in found],
    )


def packages_section(store: RunStore, done: Sequence[Stage], names: Mapping[str, str]) -> Section:
    """Versions of what grades, trains and counts, in the harness's own environment."""
    found = workplaces(store, done, names)
    everyone = [name for name, _ in found]
    known = sorted({package for _, told in found for package in told["packages"]})
    rows = [
        [package, version, "all" if stages == everyone else several(stages)]
        for package in known
        for version, stages in by_version(found, package).items()
    ]
    return Section(
        title="Packages",
        columns=("package", "version", "stages"),
        rows=rows,
        note="Of the harness's own environment. Engines have environments of their own.",
        group="provenance",
        folded=True,
    )


def by_version(found: Sequence[tuple[str, Mapping[str, Any]]], package: str) -> dict[str, list[str]]:
    versions: dict[str, list[str]] = {}
    for stage, told in found:
        if package in told["packages"]:
            versions.setdefault(told["packages"][package], []).append(stage)
    return versions


def workplaces(
    store: RunStore, done: Sequence[Stage], names: Mapping[str, str]
) -> list[tuple[str, Mapping[str, Any]]]:
    """Where each stage was finished, by its name; what an earlier version ran has none."""
    told = [(names[stage.key], store.manifest(stage).get("workplace")) for stage in done]
    return [(name, where) for name, where in told if where]


def grouped(title: str, columns: Sequence[str], lines: Sequence[tuple[str, list[Cell]]]) -> Section:
    """Equal lines once, with the stages that they are about."""
    stages: dict[tuple[Cell, ...], list[str]] = {}
    for stage, cells in lines:
        stages.setdefault(tuple(cells), []).append(stage)
    everyone = [stage for stage, _ in lines]
    return Section(
        title=title,
        columns=(*columns, "stages"),
        rows=[[*cells, "all" if own == everyone else several(own)] for cells, own in stages.items()],
        group="provenance",
    )


def several(names: Sequence[str], shown: int = 4) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


# Prompts ------------------------------------------------------------------------------------


UNTOLD = "Not recorded: whoever asked was an earlier version of the harness, which kept no prompt"
UNSHOWN = ", or its authors ask that its texts are not spread and no placeholders stand for them"


def prompt_sections(store: RunStore, labels: Mapping[str, Stage]) -> Iterator[Section]:
    """The prompt of each benchmark as it was sent: once for all rows that were sent the same.

    It is that of the first question; of a gated benchmark with placeholders for its texts
    (`Benchmark.public`). Where nobody kept it, that is said.
    """
    found: dict[tuple[str, str], list[tuple[str, Ask]]] = {}
    for label, mark in labels.items():
        if isinstance(mark, Mark) and (text := recorded(store, mark.asked)) is not None:
            _, row, benchmark = label.split("/")
            found.setdefault((benchmark, text), []).append((row, mark.asked))
    for (benchmark, text), own in found.items():
        rows = list(dict.fromkeys(row for row, _ in own))
        asked = own[0][1]
        yield Section(
            title=f"Prompt of {benchmark}, as sent to {', '.join(rows)}",
            note=prompt_note(store, asked) if text else f"{UNTOLD}{UNSHOWN * asked.benchmark.gated}.",
            copyable=text,
            group="provenance",
            folded=True,
        )


def recorded(store: RunStore, asked: Ask) -> str | None:
    """The prompt that was kept; nothing where a finished evaluation kept none, None before it has begun."""
    file = store.path(asked) / PROMPT
    if file.exists():
        return prompt_text(load(file))
    return "" if store.state(asked) == "done" else None


def prompt_text(told: Mapping[str, Any]) -> str:
    """The text that the model saw; the messages, where the server alone knew the template."""
    if rendered := told["rendered"]:
        return clean(rendered)
    body = told["body"]
    messages = body.get("messages") or [{"role": "prompt", "content": body["prompt"]}]
    return clean("\n\n".join(f"[{each['role']}]\n{each['content']}" for each in messages))


def prompt_note(store: RunStore, asked: Ask) -> str:
    """What was sent beside the text, and whether it was seen to arrive like that."""
    told = load(store.path(asked) / PROMPT)
    body = {
        name: value for name, value in told["body"].items() if name not in ("messages", "prompt", "model")
    }
    sent = ", ".join(f"{name} {value}" for name, value in body.items())
    whole = "" if told["rendered"] else " The server renders its own chat template; these are the messages."
    gated = (
        " Its authors ask that its texts are not spread: placeholders stand for them." * asked.benchmark.gated
    )
    return discreet(f"First question, first draw, {told['path']}: {sent}.{whole}{gated}{seen(store, asked)}")


def seen(store: RunStore, asked: Ask) -> str:
    """What the preflight found out about the rendering."""
    file = store.path(asked) / PREFLIGHT
    checks = load(file)["checks"] if file.exists() else []
    found = next((check for check in checks if check["name"] == "prompt"), None)
    return f" Preflight, prompt: {found['outcome']} ({found['observed']})." if found else ""
