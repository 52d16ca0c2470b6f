"""Publish: a trained checkpoint and the data that trained it, as folders ready for the Hub.

    OUT/model/           the checkpoint, and README.md: the model card
    OUT/data/LABEL/      train.jsonl in the schema of the released set, and README.md: the data card
    OUT/publish.json     what was published, by stage keys

Nothing is uploaded. The cards say what the report says, from the same entries: what is not a score there
is none here. They hold no path of the machine.
"""

import json
import os
import shlex
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from harness.discover import suggestion
from harness.errors import StageError, UsageError
from harness.files import write_json, write_rows, write_whole
from harness.hub import COMMIT, REPOSITORY, Checkpoint, check_checkpoint, copy_files, model_files
from harness.integrity import of_an_input
from harness.recipe import Recipe
from harness.rows import read_in_order, read_rows
from harness.stage import Json, Stage, ordered
from harness.store import RunStore
from harness.types import Generation
from reports.assemble import assemble
from reports.claim_table import wide_table
from reports.page import Report, environment
from reports.published import Ambiguity, load_ambiguities
from reports.table import Entry

MARKER = "publish.json"
ROWS = "train.jsonl"
COLUMNS = ("uuid", "input", "output", "domain", "meta")  # of Superior-Reasoning-SFT-gpt-oss-120b, all strings
TRAINING, DATA = "sft", ("select", "mix")
UNKNOWN_LICENCE = "other"
ROW_NAMES = uuid.uuid5(uuid.NAMESPACE_URL, "dasd-harness")
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What the publisher decides. Licences are the Hub's identifiers; `repository` is ORG/NAME or nothing."""

    licence: str = UNKNOWN_LICENCE
    data_licence: str = UNKNOWN_LICENCE
    repository: str = ""


@dataclass(frozen=True, kw_only=True)
class Publication:
    """A row of a finished run with the stages that made it.

    `trainings` are the trainings from the base to this checkpoint, `data` the Select and Mix stages that
    they used, both by the recipe's labels.
    """

    store: RunStore
    recipe: Recipe
    row: str
    report: Report
    base: Stage
    trainings: dict[str, Stage]
    data: dict[str, Stage]
    terms: Terms = field(default_factory=Terms)

    @property
    def model(self) -> Stage:
        return list(self.trainings.values())[-1]

    @property
    def name(self) -> str:
        return f"{self.recipe.name}-{self.row}"

    @property
    def entries(self) -> list[Entry]:
        return [entry for entry in self.report.entries if entry.row == self.row]

    @property
    def not_a_score(self) -> tuple[str, ...]:
        """Why some of this row's numbers are no scores."""
        return tuple(dict.fromkeys(reason for entry in self.entries for reason in entry.not_a_score))

    @property
    def repository(self) -> str:
        return self.terms.repository or f"ORG/{self.name}"

    def data_repository(self, label: str) -> str:
        return f"{self.repository}-{label}"


def publication(
    store: RunStore, recipe: Recipe, labels: Mapping[str, Stage], row: str, terms: Terms
) -> Publication:
    """What publishing a row takes.

    Raises UsageError for an unknown or untrained row and for a bad name, StageError for what is not finished.
    """
    if row not in recipe.models:
        raise UsageError(f"{recipe.name} has no row {row!r}. {suggestion(row, recipe.models)}")
    if terms.repository and not REPOSITORY.fullmatch(terms.repository):
        raise UsageError(f"{terms.repository!r} is no name of a repository", "ORG/NAME is expected.")
    base, chain = trained_from(recipe.models[row].model)
    if not chain:
        raise UsageError(
            f"{recipe.name} did not train the row {row!r}: it is {base.key}", "Publish a row that it trained."
        )
    used = list(dict.fromkeys(data_of(training) for training in chain))
    for stage in (*chain, *used):
        if store.state(stage) != "done":
            raise StageError(
                f"{stage.key}, which made the row {row!r}, is not finished in {store.root}",
                f"Run `harness reproduce {recipe.name}` to its end first.",
            )
    names = {stage.key: label for label, stage in recipe.stages.items()}
    return Publication(
        store=store,
        recipe=recipe,
        row=row,
        report=assemble(store, recipe, labels),
        base=base,
        trainings={names.get(stage.key, stage.key): stage for stage in chain},
        data={names.get(stage.key, stage.key): stage for stage in used if stage.kind in DATA},
        terms=terms,
    )


def trained_from(model: Stage) -> tuple[Stage, list[Stage]]:
    """The checkpoint at the bottom, and the trainings on top of it in their order."""
    chain: list[Stage] = []
    while model.kind == TRAINING:
        chain.insert(0, model)
        model = input_of(model, "base")
    return model, chain


def data_of(training: Stage) -> Stage:
    return input_of(training, "data")


def input_of(stage: Stage, name: str) -> Stage:
    """The input stage in one field of a stage."""
    key = stage.identity[name]
    return next(read for read in stage.inputs if read.key == key)


def publish(what: Publication, out: Path) -> list[str]:
    """Writes `out` whole or not at all, in place of an earlier publication. Returns the upload commands.

    Written aside first: interrupted, the next call goes on with the data files that are whole. Raises
    UsageError where `out` holds something else.
    """
    check_ours(out)
    aside = out.with_name(f".{out.name}.partial")
    start(aside, marker(what))
    model = aside / "model"
    copy_checkpoint(what.store.whole(what.model, of_an_input) / "model", model)
    counts = {label: write_data(what, label, aside / "data" / label) for label in what.data}
    write_whole(model / "README.md", model_card(what, counts).encode())
    for label in what.data:
        card = data_card(what, label, counts[label])
        write_whole(aside / "data" / label / "README.md", card.encode())
    swap(aside, out)
    return list(upload_commands(what, out))


def marker(what: Publication) -> dict[str, Json]:
    """What is published: equal markers mean equal data files."""
    return {
        "recipe": what.recipe.name,
        "row": what.row,
        "model": what.model.key,
        "data": {label: stage.key for label, stage in what.data.items()},
        "harness": version("dasd-harness"),
    }


def check_ours(out: Path) -> None:
    """Puts back what an interrupted swap left aside; raises UsageError where `out` is not a publication."""
    before = earlier(out)
    if before.exists() and not out.exists():
        before.rename(out)
    if out.exists() and not (out / MARKER).is_file():
        raise UsageError(f"{out} exists and was not written by `harness publish`", "Give another folder.")


def start(aside: Path, told: dict[str, Json]) -> None:
    """The folder to write into: that of an interrupted call for the same stages, else an empty one."""
    try:
        same = json.loads((aside / MARKER).read_bytes()) == told
    except (OSError, ValueError):
        same = False
    if not same and aside.exists():
        shutil.rmtree(aside)
    aside.mkdir(parents=True, exist_ok=True)
    write_json(aside / MARKER, told)


def swap(aside: Path, out: Path) -> None:
    """Renames the finished folder into place; the earlier one goes once the new one is there."""
    before = earlier(out)
    shutil.rmtree(before, ignore_errors=True)
    if out.exists():
        out.rename(before)
    os.rename(aside, out)
    shutil.rmtree(before, ignore_errors=True)


def earlier(out: Path) -> Path:
    return out.with_name(f".{out.name}.earlier")


def copy_checkpoint(model: Path, target: Path) -> None:
    """Weights as hard links where the file system allows it; what people edit is copied."""
    check_checkpoint(model)
    files = model_files(model)
    copy_files([file for file in files if file.suffix == ".safetensors"], target, link=True)
    copy_files([file for file in files if file.suffix != ".safetensors"], target, link=False)


def upload_commands(what: Publication, out: Path) -> Iterator[str]:
    """What would upload it all."""
    yield shlex.join(["hf", "upload", what.repository, str(out / "model")])
    for label in what.data:
        folder = str(out / "data" / label)
        yield shlex.join(["hf", "upload", what.data_repository(label), folder, "--repo-type", "dataset"])


# Data ---------------------------------------------------------------------------------------


class Counted(msgspec.Struct, frozen=True):
    """What a data card reads of a published row."""

    domain: str
    meta: str


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Rows and sampled tokens by domain."""

    rows: dict[str, int]
    tokens: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.rows.values())

    def table(self) -> list[tuple[str, int, int]]:
        lines = [(domain, self.rows[domain], self.tokens[domain]) for domain in sorted(self.rows)]
        return [*lines, ("total", self.total, sum(self.tokens.values()))]


def write_data(what: Publication, label: str, folder: Path) -> Counts:
    """A stage's rows in the released schema; kept where an interrupted call wrote them whole."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ROWS).exists():
        data = what.store.whole(what.data[label], of_an_input)
        rows = read_in_order(data / "generations.jsonl", Generation)
        write_rows(folder / ROWS, map(as_released, rows))
    return counted(folder / ROWS)


def as_released(row: Generation) -> dict[str, str]:
    """A row as the released set has it: uuid, input, output, domain and meta, all strings.

    A row of the released set keeps its uuid; another's follows from what it says.
    """
    drawn = row.kept.get("drawn", row.draw)
    name = row.kept.get("uuid") or uuid.uuid5(ROW_NAMES, f"{row.question}\n{drawn}\n{row.text}")
    meta = {
        "question": row.question,
        "draw": drawn,
        "policy": "mixed" if "student_bytes" in row.kept else "teacher",
        "temperature": row.sampling.temperature,
        "sampled_tokens": row.completion_tokens,
        **({"student_bytes": row.kept["student_bytes"]} if "student_bytes" in row.kept else {}),
    }
    told = json.dumps(meta, ensure_ascii=False)
    values = (str(name), row.kept["prompt"], row.text, row.kept["domain"], told)
    return dict(zip(COLUMNS, values, strict=True))


def counted(path: Path) -> Counts:
    rows: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for row in read_rows(path, Counted):
        rows[row.domain] += 1
        tokens[row.domain] += json.loads(row.meta)["sampled_tokens"]
    return Counts(rows=dict(rows), tokens=dict(tokens))


# Cards --------------------------------------------------------------------------------------


def model_card(what: Publication, counts: Mapping[str, Counts]) -> str:
    """README.md of the model: the Hub's front matter, then what was done and what came of it."""
    from huggingface_hub import ModelCardData

    front = ModelCardData(
        language="en",
        license=what.terms.licence,
        license_name="unspecified" if what.terms.licence == UNKNOWN_LICENCE else None,
        base_model=hub_name(what.base),
        datasets=trained_on(what) or None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["distillation", "reasoning", "dasd-harness"],
        model_name=what.name,
        eval_results=results(what) or None,
    )
    table = wide_table(what.entries, what.report.kind == "reference")
    return with_front(
        front.to_yaml(),
        "model_card.md",
        what=what,
        columns=[column.heading for column in table.columns],
        lines=[cells for _, cells in table.lines],
        missing=list(not_measured(what)),
        trainings=list(training_rows(what)),
        settings={label: settings(stage) for label, stage in what.trainings.items()},
        counts=counts,
        steps=list(steps(what)),
        pins=list(pins(what)),
        open=ambiguities(what),
        system=what.recipe.models[what.row].system,
        harness=version("dasd-harness"),
    )


def data_card(what: Publication, label: str, counts: Counts) -> str:
    """README.md of one data set."""
    from huggingface_hub import DatasetCardData

    stage = what.data[label]
    behind = ordered([stage])
    kinds = {one.kind for one in behind}
    front = DatasetCardData(
        language="en",
        license=what.terms.data_licence,
        task_categories=["text-generation"],
        size_categories=next((name for size, name in SIZES if counts.total < size), "1M<n<10M"),
        pretty_name=f"{what.recipe.name} {label}",
        tags=["distillation", "reasoning", "synthetic", "dasd-harness"],
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": ROWS}]}],
        dataset_info={"features": [{"name": name, "dtype": "string"} for name in COLUMNS]},
    )
    return with_front(
        front.to_yaml(),
        "data_card.md",
        what=what,
        label=label,
        counts=counts,
        mixed="mix" in kinds,
        released="released" in kinds,
        decontaminated=any(one.identity.get("decontaminate") for one in behind),
        used=[name for name, training in what.trainings.items() if data_of(training) == stage],
        trainings=[row for row in training_rows(what) if row[1] == label],
        steps=list(steps(what, stage)),
        pins=list(pins(what, stage)),
        harness=version("dasd-harness"),
    )


def with_front(yaml: str, template: str, **values: Any) -> str:
    body = environment(template).get_template(f"{template}.j2").render(**values)
    return f"---\n{yaml}\n---\n\n{body}"


def results(what: Publication) -> list[Any]:
    """Our scores for the Hub's model index: only whole, graded ones of the whole benchmark.

    The index takes results on one data set for one result with several metrics unless their configuration
    differs: two windows of LiveCodeBench are told apart by it.
    """
    from huggingface_hub import EvalResult

    known = {benchmark.name: benchmark for benchmark in what.recipe.benchmarks}
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=known[entry.benchmark].dataset,
            dataset_name=entry.benchmark,
            dataset_config=entry.benchmark,
            dataset_revision=commit_or_none(known[entry.benchmark].revision),
            metric_type="accuracy",
            metric_name=f"avg@{entry.draws}",
            metric_value=round(entry.measured, 2),
        )
        for entry in what.entries
        if entry.measured is not None and not entry.not_a_score and not entry.short
    ]


def commit_or_none(revision: str) -> str | None:
    return revision if COMMIT.fullmatch(revision) else None


def not_measured(what: Publication) -> Iterator[tuple[str, str]]:
    """Benchmarks without a number for this row, and why."""
    told = {entry.benchmark for entry in what.entries}
    for entry in what.entries:
        if entry.measured is None or entry.not_a_score:
            yield entry.benchmark, "; ".join(entry.not_a_score) or entry.reason or "not measured"
    for benchmark in what.recipe.benchmarks:
        if benchmark.name not in told:
            yield benchmark.name, "not asked"


def training_rows(what: Publication) -> Iterator[tuple[str, str, int, int, int]]:
    """Stage, its data, rows, tokens seen over all epochs, steps."""
    names = {stage.key: label for label, stage in what.recipe.stages.items()}
    for label, stage in what.trainings.items():
        told = json.loads((what.store.path(stage) / "training.json").read_bytes())
        data = data_of(stage).key
        yield label, names.get(data, data), told["rows"], told["tokens"], told["steps"]


def steps(what: Publication, end: Stage | None = None) -> Iterator[tuple[str, str, str]]:
    """The stages behind the model, or behind one of its data sets: label, kind and settings."""
    names = {stage.key: label for label, stage in what.recipe.stages.items()}
    for stage in ordered([end or what.model]):
        if not isinstance(stage, Checkpoint):
            told = "; ".join(f"{name} {value}" for name, value in settings(stage).items())
            yield names.get(stage.key, stage.key), stage.kind, told


def settings(stage: Stage) -> dict[str, str]:
    """A stage's own fields in words, without the stages that it reads."""
    read = {one.key for one in stage.inputs}
    return {
        name: words(value)
        for name, value in stage.identity.items()
        if name not in ("class", "version") and value not in ("", None, []) and not is_input(value, read)
    }


def is_input(value: Json, read: set[str]) -> bool:
    return isinstance(value, str) and value in read


def words(value: Json) -> str:
    match value:
        case dict():
            told = (
                f"{name} {words(part)}" for name, part in value.items() if name not in ("class", "version")
            )
            return f"({', '.join(told)})"
        case list():
            return f"[{', '.join(map(words, value))}]"
    return str(value)


def pins(what: Publication, end: Stage | None = None) -> Iterator[tuple[str, str, str]]:
    """Checkpoints and data sets that went in: name, pin, and what was read of them."""
    for stage in ordered([end or what.model]):
        path = what.store.path(stage)
        if isinstance(stage, Checkpoint):
            yield stage.source, stage.revision or f"sha256 {stage.sha256}", origin(path / "source.json")
        else:
            found = origins(path / "sources.json")
            for table in tables(stage.identity):
                yield table["repo"], table["revision"], found.get(table["repo"], "")


def origin(file: Path) -> str:
    """Where a stage's input came from: "local" or a commit; nothing where that is not told."""
    return str(json.loads(file.read_bytes()).get("origin", "")) if file.exists() else ""


def origins(file: Path) -> dict[str, str]:
    told = json.loads(file.read_bytes()) if file.exists() else []
    return {one["name"]: str(one["origin"]) for one in told if "origin" in one}


def tables(value: Json) -> Iterator[dict[str, Any]]:
    """The data sets on a hub that a stage's description names."""
    match value:
        case {"repo": str(), "revision": str()}:
            yield value
        case dict():
            for part in value.values():
                yield from tables(part)
        case list():
            for part in value:
                yield from tables(part)


def trained_on(what: Publication) -> list[str]:
    """The data sets of the Hub that trained the model: those published beside it and released ones."""
    released = [
        table["repo"] for training in what.trainings.values() for table in tables(data_of(training).identity)
    ]
    own = [what.data_repository(label) for label in what.data] if what.terms.repository else []
    return list(dict.fromkeys([*own, *released]))


def hub_name(stage: Stage) -> str | None:
    """The base's name on the Hub; None where it came from a folder."""
    return stage.source if isinstance(stage, Checkpoint) and stage.revision else None


def ambiguities(what: Publication) -> Sequence[Ambiguity]:
    return load_ambiguities(what.recipe.published) if what.recipe.published else ()
