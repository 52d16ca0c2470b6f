"""Gathers what a recipe's stages left behind into one Report."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.adaptive import as_reached, rounds_kept, saving
from harness.evaluate import Mark, asked_counts
from harness.recipe import Recipe
from harness.rows import read_rows
from harness.stage import Stage, ordered
from harness.statistics import Claim
from harness.store import RunStore
from harness.types import Grade
from reports.diagnostics import selection_sections, training_sections
from reports.page import (
    Report,
    Section,
    ambiguities_section,
    rounds_sections,
    sensitivity_section,
)
from reports.paper_tables import paper_tables
from reports.plots import steps_of
from reports.published import Published, claims, load_ambiguities, load_published
from reports.sensitivity import Varied, spread
from reports.table import Measurement, build_entries


def assemble(
    store: RunStore, recipe: Recipe, labels: Mapping[str, Stage], varied: Sequence[Varied] = ()
) -> Report:
    """The report of what is measured so far. Stages that are not complete are left out.

    `varied` are the scores under other readings, where they were asked for.
    """
    published = load_published(recipe.published) if recipe.published else None
    labels = as_reached(store, recipe.name, labels)
    measurements = list(measured(store, labels, rounds_kept(store.root / recipe.name)))
    entries = [
        replace(entry, spread=spread(varied, entry.row, entry.benchmark))
        for entry in build_entries(claimed(recipe), published, measurements)
    ]
    return Report(
        recipe=recipe.name,
        summary=recipe.summary,
        kind=published.kind if published else "none",
        claims_title=published.title if published else "",
        entries=entries,
        provenance={label: stage.key for label, stage in labels.items()},
        engines=dict(engines(store, labels)),
        sections=[
            *(paper_tables(published, claimed(recipe), entries) if published else ()),
            *rounds_sections(entries),
            *sections(store, labels, recipe, published, varied),
        ],
    )


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
            questions, draws = asked_counts(store.path(mark.asked))
            yield Measurement(
                row=row,
                benchmark=benchmark,
                grades=list(read_rows(store.path(mark) / "grades.jsonl", Grade)),
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
            yield name, ", ".join(f"{key} {value}" for key, value in session.items() if key != "model")


def sections(
    store: RunStore,
    labels: Mapping[str, Stage],
    recipe: Recipe,
    published: Published | None,
    varied: Sequence[Varied],
) -> Iterator[Section]:
    """The tables below the main one, each where its stage is complete."""
    done = {label: store.path(stage) for label, stage in labels.items() if store.state(stage) == "done"}
    if varied:
        yield sensitivity_section(varied)
    if register := load_ambiguities(recipe.published) if recipe.published else ():
        yield ambiguities_section(register)
    yield Section(title="Stages", columns=("stage", "key", "seconds", "rows"), rows=list(stage_rows(done)))
    if dropped := list(drop_rows(done)):
        yield Section(
            title="Kept and dropped responses",
            columns=("stage", "domain", "temperature", "outcome", "rows", "of", "share"),
            rows=dropped,
            note="Outcomes are kept, or the reason for a drop (docs/filters.md).",
        )
    if selected := list(selection_rows(done)):
        yield Section(
            title="Divergence-aware selection",
            columns=("stage", "teacher sentences", "student", "shared", "questions with a choice"),
            rows=selected,
            note="Shares over all candidates' sentences; report §4.",
        )
    yield from selection_sections(done)
    if trained := list(training_rows(done)):
        yield Section(
            title="Training",
            columns=("stage", "rows", "tokens", "steps", "first loss", "last loss"),
            rows=trained,
        )
    yield from training_sections(done)


def load(path: Path) -> Any:
    return json.loads(path.read_bytes())


def stage_rows(done: Mapping[str, Path]) -> Iterator[tuple[str, str, float, int | None]]:
    for label, path in done.items():
        manifest = load(path / "stage.json")
        yield label, manifest["key"], manifest["seconds"], manifest.get("rows")


def drop_rows(done: Mapping[str, Path]) -> Iterator[tuple[str, str, float, str, int, int, str]]:
    """What became of each filter's responses, by domain and temperature; shares are of these."""
    for label, path in done.items():
        if (path / "counts.json").exists():
            for group in load(path / "counts.json"):
                outcomes = {"kept": group["kept"], **group["dropped"]}
                total = sum(outcomes.values())
                for outcome, rows in outcomes.items():
                    share = f"{rows / total:.1%}"
                    yield label, group["domain"], group["temperature"], outcome, rows, total, share


def selection_rows(done: Mapping[str, Path]) -> Iterator[tuple[str, str, str, str, str]]:
    for label, path in done.items():
        if (path / "diagnostics.json").exists():
            found = load(path / "diagnostics.json")
            yield (
                label,
                f"{found['teacher_sentences']:.1%}",
                f"{found['student_sentences']:.1%}",
                f"{found['shared_sentences']:.1%}",
                f"{found['questions_with_differing_candidates']:.1%}",
            )


def training_rows(
    done: Mapping[str, Path],
) -> Iterator[tuple[str, int, int, int, float | None, float | None]]:
    for label, path in done.items():
        if (path / "training.json").exists():
            told, (steps, _) = load(path / "training.json"), steps_of(load(path / "losses.json"))
            first, last = (round(steps[end].loss, 3) if steps else None for end in (0, -1))
            yield label, told["rows"], told["tokens"], told["steps"], first, last
