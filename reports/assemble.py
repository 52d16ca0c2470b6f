"""Gathers what a recipe's stages left behind into one Report."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from harness.adaptive import as_reached, rounds_kept, saving
from harness.evaluate import Mark, asked_counts
from harness.lengths import lengths
from harness.recipe import Recipe
from harness.rows import read_rows
from harness.stage import Stage, ordered
from harness.statistics import Claim
from harness.store import RunStore
from harness.types import Grade
from reports.differences import differences
from reports.discreet import discreet
from reports.page import (
    Report,
    Section,
    ambiguities_section,
    rounds_sections,
    sensitivity_section,
)
from reports.paper_tables import paper_tables
from reports.provenance import provenance_sections
from reports.published import claims, load_ambiguities, load_published
from reports.questions import Answered, benchmark_sections
from reports.readings import readings_section
from reports.sensitivity import Varied, spread
from reports.stages import stage_sections
from reports.table import Entry, Measurement, build_entries


def assemble(
    store: RunStore, recipe: Recipe, labels: Mapping[str, Stage], varied: Sequence[Varied] = ()
) -> Report:
    """The report of what is measured so far. Stages that are not complete are left out.

    `varied` are the scores under other readings, where they were asked for.
    """
    published = load_published(recipe.published) if recipe.published else None
    labels = as_reached(store, recipe.name, labels)
    found, measurements = entries_of(store, recipe, labels)
    entries = [replace(entry, spread=spread(varied, entry.row, entry.benchmark)) for entry in found]
    below = sections(store, labels, recipe, entries, measurements, varied)
    return Report(
        recipe=recipe.name,
        summary=recipe.summary,
        kind=published.kind if published else "none",
        claims_title=published.title if published else "",
        entries=entries,
        differences=list(differences(store, labels, entries, published)),
        provenance={label: stage.key for label, stage in labels.items()},
        engines=dict(engines(store, labels)),
        sections=[
            *(paper_tables(published, claimed(recipe), entries) if published else ()),
            *rounds_sections(entries),
            *below,
        ],
    )


def entries_of(
    store: RunStore, recipe: Recipe, labels: Mapping[str, Stage]
) -> tuple[list[Entry], list[Measurement]]:
    """The claims beside what is measured so far, and the measurements that they come from.

    Nothing of a report but its scores is read. `labels` are as `as_reached` gives them.
    """
    published = load_published(recipe.published) if recipe.published else None
    measurements = list(measured(store, labels, rounds_kept(store.root / recipe.name)))
    return build_entries(claimed(recipe), published, measurements), measurements


def claimed(recipe: Recipe) -> str:
    """The recipe that the claims name: another seed, or another way in, is compared with the same."""
    return recipe.claimed or recipe.published.replace("_", "-") or recipe.name


def claims_by_label(recipe: Recipe) -> dict[str, list[Claim]]:
    """What is claimed about each evaluation `eval/<row>/<benchmark>` of a recipe; nothing without claims."""
    found: dict[str, list[Claim]] = {}
    if recipe.published:
        for one in claims(load_published(recipe.published), claimed(recipe)):
            found.setdefault(f"eval/{one.row}/{one.benchmark}", []).append(one.claim)
    return found


def measured(
    store: RunStore, labels: Mapping[str, Stage], rounds: Mapping[str, tuple[int, ...]]
) -> Iterator[Measurement]:
    for label, mark in labels.items():
        if isinstance(mark, Mark) and store.state(mark) == "done":
            _, row, benchmark = label.split("/")
            questions, draws = asked_counts(store.whole(mark.asked))
            yield Measurement(
                row=row,
                benchmark=benchmark,
                grades=list(read_rows(store.whole(mark) / "grades.jsonl", Grade)),
                questions=questions,
                draws=draws,
                protocol=protocol(mark, questions),
                limited=mark.asked.limit is not None,
                voted=mark.asked.benchmark.voted,
                rounds=rounds.get(label, ()),
                saved=saving(store, mark, rounds[label]) if label in rounds else None,
            )


def protocol(mark: Mark, questions: int) -> dict[str, str]:
    """How a row was asked and graded, in words."""
    sampling, benchmark = mark.asked.drawn, mark.asked.benchmark
    return {
        "sampling": f"temperature {sampling.temperature}, top_p {sampling.top_p}, top_k {sampling.top_k}, "
        f"min_p {sampling.min_p}, repetition_penalty {sampling.repetition_penalty}",
        "max_tokens": str(sampling.max_tokens),
        "system": mark.asked.system or "none",
        "engine": mark.asked.engine,
        **benchmark.protocol(),
        "questions": str(questions),
        "benchmark version": f"{benchmark.version}, grader {mark.grader}",
    }


def engines(store: RunStore, labels: Mapping[str, Stage]) -> Iterator[tuple[str, str]]:
    """The engine of each stage that asked a model, as its session file says."""
    for stage in ordered(list(labels.values())):
        for file in sorted(store.path(stage).glob("**/session.json")):
            session = json.loads(file.read_bytes())
            name = f"{session['engine']} {session['version']}"
            told = ", ".join(f"{key} {value}" for key, value in session.items() if key != "model")
            yield name, discreet(told)


def sections(
    store: RunStore,
    labels: Mapping[str, Stage],
    recipe: Recipe,
    entries: Sequence[Entry],
    measurements: Sequence[Measurement],
    varied: Sequence[Varied],
) -> Iterator[Section]:
    """All that stands below the claims, each where there is something to say."""
    draws = list(answered(store, labels, entries, measurements))
    yield from benchmark_sections(draws, main_row(recipe, entries))
    marks = [mark for mark in labels.values() if isinstance(mark, Mark) and store.state(mark) == "done"]
    register = load_ambiguities(recipe.published) if recipe.published else ()
    if varied:
        yield sensitivity_section(varied)
    else:
        yield from readings_section(recipe.name, marks, register)
    yield from stage_sections(store, labels)
    yield from provenance_sections(store, recipe, labels, sensitive=bool(varied))
    if register:
        yield ambiguities_section(register)


def answered(
    store: RunStore,
    labels: Mapping[str, Stage],
    entries: Sequence[Entry],
    measurements: Sequence[Measurement],
) -> Iterator[Answered]:
    """Every measured row and benchmark with its draws and their lengths. No text of a response is read."""
    of = {(one.row, one.benchmark): one for one in entries}
    for one in measurements:
        mark = labels[f"eval/{one.row}/{one.benchmark}"]
        assert isinstance(mark, Mark)
        found = lengths(store.stages, mark.asked.key)
        yield Answered(
            entry=of[one.row, one.benchmark],
            grades=one.grades,
            tokens={(each.question, each.draw): each.completion for each in found},
            limit=mark.asked.drawn.max_tokens,
        )


def main_row(recipe: Recipe, entries: Sequence[Entry]) -> str:
    """The row that the recipe ends in, where it is measured; else the first that is."""
    last = list(recipe.stages.values())[-1:]
    measured = list(dict.fromkeys(one.row for one in entries if one.questions))
    ends = [name for name in measured if name in recipe.models and recipe.models[name].model in last]
    return next(iter([*ends, *measured]), "")
