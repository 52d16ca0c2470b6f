"""Cost: what a stage will ask, read, write and compute, told before it runs.

A stage that is done is measured from its rows. One that is not asks what it reads how much that will be,
and fills in what nobody can know yet from the recipe's `Assumptions`, each of which names its source.
Neither is part of any identity: a better guess re-runs nothing.

Units: tokens of the model that writes them, bytes, questions, rows. Counts are floats, because shares of
counts are expected values.
"""

import json
import math
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from harness.files import write_json
from harness.hub import Checkpoint
from harness.integrity import MEASURED as MEASURED
from harness.rows import read_rows
from harness.stage import Service, Stage
from harness.types import Sampling

if TYPE_CHECKING:
    from harness.store import RunStore

Kind = Literal["generate", "score", "train", "grade", "none"]

ROW_BYTES = 800  # of a generation's JSON, beside its texts
ARROW_BYTES = 7  # of one token's id, log-probability and length, compressed
LARGEST_HEADER = 100_000_000  # the safetensors format's own limit


# What is assumed ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """A number that is not measured here, and where it is from: "§6.3", or "ours: …"."""

    value: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Answers:
    """A benchmark: its number of questions, and the mean tokens of a prompt and of a response."""

    questions: int
    prompt: float
    response: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Size:
    """A model: its parameters, those of them that one token passes through, the bytes of its weights.

    `attention` is layers × heads × head size of its full attention: 0 leaves attention uncounted.
    """

    parameters: float
    active: float
    bytes: float
    source: str
    attention: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What a recipe takes for given until it is measured.

    `prompt`: mean tokens of a question, by domain. `response`: mean tokens of a response, by domain and
    temperature; without one the token limit is taken, which is too many. `benchmarks`, by name.
    `passing`: the share of responses that pass the filter, by the kind of stage that wrote them
    ("sample", "revise"), all without one. `truncated`: the share of drafts that run into their cap.
    `continued`: the teacher's end of a draft, as a share of the draft's part that is kept.
    `released`: rows of a released set, by part and domain. `models`, by the checkpoint's source; others
    are read from the weights, where those are on this machine. `downloads`: bytes, by repository.
    """

    prompt: Mapping[str, Assumed] = field(default_factory=dict)
    response: Mapping[tuple[str, float], Assumed] = field(default_factory=dict)
    benchmarks: Mapping[str, Answers] = field(default_factory=dict)
    passing: Mapping[str, Assumed] = field(default_factory=dict)
    truncated: Assumed = Assumed(value=1.0, source="none: every draft")
    continued: Assumed = Assumed(value=0.5, source="ours: half as long again")
    released: Mapping[tuple[str, str], Assumed] = field(default_factory=dict)
    models: Mapping[str, Size] = field(default_factory=dict)
    downloads: Mapping[str, Assumed] = field(default_factory=dict)
    bytes_per_token: Assumed = Assumed(value=3.5, source="ours: English with formulas and code")


# What is told -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Amount:
    """The rows of one domain: to how many questions, and the tokens of their prompts and responses."""

    rows: float = 0.0
    questions: float = 0.0
    prompt: float = 0.0
    response: float = 0.0

    @property
    def length(self) -> float:
        """Mean tokens of a row, its prompt included."""
        return (self.prompt + self.response) / self.rows if self.rows else 0.0

    def part(self, rows: float, questions: float) -> "Amount":
        """So many of these rows, of average length."""
        share = rows / self.rows if self.rows else 0.0
        return Amount(
            rows=rows, questions=questions, prompt=self.prompt * share, response=self.response * share
        )

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(
            rows=self.rows + other.rows,
            questions=self.questions + other.questions,
            prompt=self.prompt + other.prompt,
            response=self.response + other.response,
        )


@dataclass(frozen=True, kw_only=True)
class Volume:
    """The rows that a stage leaves, by domain. `measured`: they were counted, not guessed."""

    domains: Mapping[str, Amount] = field(default_factory=dict)
    measured: bool = False

    @property
    def total(self) -> Amount:
        return sum(self.domains.values(), Amount())

    def __add__(self, other: "Volume") -> "Volume":
        names = dict.fromkeys([*self.domains, *other.domains])
        nothing = Amount()
        return Volume(
            domains={
                name: self.domains.get(name, nothing) + other.domains.get(name, nothing) for name in names
            }
        )


@dataclass(frozen=True, kw_only=True)
class Work:
    """What running one stage takes.

    `model` is the checkpoint that computes, and `engine` what runs it: an engine's name, "torch" for a
    forward pass in process, a trainer's name. Training reads `tokens_in`, once an epoch. `context` is how
    many tokens before it a token attends to, on average. `disk` stays, `scratch` is needed until the stage
    is done. `setting` is the published setting in a few words.
    """

    kind: Kind = "none"
    model: Stage | None = None
    engine: str = ""
    requests: float = 0.0
    tokens_in: float = 0.0
    tokens_out: float = 0.0
    context: float = 0.0
    disk: float = 0.0
    scratch: float = 0.0
    setting: str = ""
    sandbox: bool = False


class Estimator:
    """Volumes and works of the stages of one store, each reckoned once.

    `unknown` names what had to be guessed without any assumption.
    """

    def __init__(
        self, store: "RunStore", assumptions: Assumptions = Assumptions(), data: Path | None = None
    ) -> None:
        self.store = store
        self.assumptions = assumptions
        self.data = data
        self.unknown: dict[str, str] = {}
        self._volumes: dict[str, Volume] = {}
        self._works: dict[str, Work] = {}
        self._sizes: dict[str, Size | None] = {}

    def volume(self, stage: Stage) -> Volume:
        """What a stage leaves: counted where it is done, else as it expects."""
        if stage.key not in self._volumes:
            found = self.counted(stage) if self.store.state(stage) == "done" else None
            self._volumes[stage.key] = found or stage.expected(self) or Volume()
        return self._volumes[stage.key]

    def work(self, stage: Stage) -> Work:
        """What a stage takes. Of one that is done, the requests and tokens are those of its rows."""
        if stage.key not in self._works:
            own = self.checkpoint(stage) if isinstance(stage, Checkpoint) else stage.work(self)
            self._works[stage.key] = own or Work()
        return self._works[stage.key]

    def checkpoint(self, model: Checkpoint) -> Work:
        size = self.size(model)
        where = f"{model.source} @ {model.revision[:12]}" if model.revision else f"{model.source}, a folder"
        return Work(setting=where, disk=size.bytes if size else 0.0)

    def counted(self, stage: Stage) -> Volume | None:
        """The rows of a finished stage; they never change, so the count is kept beside the stages."""
        kept = self.store.stages / MEASURED / f"{stage.key}.json"
        with suppress(OSError, msgspec.MsgspecError):
            return msgspec.json.decode(kept.read_bytes(), type=Volume)
        found = count(self.store.path(stage), self.assumptions.bytes_per_token.value)
        if found is not None:
            with suppress(OSError):  # plans are made of runs that belong to others, too
                kept.parent.mkdir(exist_ok=True)
                write_json(kept, found)
        return found

    # Lengths

    def prompt(self, domain: str) -> float:
        """Mean tokens of a question of a domain."""
        found = self.assumptions.prompt.get(domain)
        if found is None:
            self.unknown[f"prompt tokens of {domain}"] = "priced as none"
        return found.value if found else 0.0

    def response(self, domain: str, sampling: Sampling) -> float:
        """Mean tokens of a response."""
        found = self.assumptions.response.get((domain, sampling.temperature))
        if found is None:
            name = f"response tokens of {domain} at temperature {sampling.temperature}"
            self.unknown[name] = f"priced at the limit, {sampling.max_tokens:,}"
            return sampling.max_tokens
        return min(found.value, sampling.max_tokens)

    def answers(self, benchmark: str) -> Answers | None:
        found = self.assumptions.benchmarks.get(benchmark)
        if found is None:
            self.unknown[f"questions and answers of {benchmark}"] = "priced as none"
        return found

    def passing(self, kind: str) -> float:
        """The share of the rows of such a stage that pass the filter."""
        found = self.assumptions.passing.get(kind)
        if found is None:
            self.unknown[f"share of {kind} rows that pass the filter"] = "priced as all"
        return found.value if found else 1.0

    def download(self, repository: str) -> float:
        """Bytes of a data set that comes from a hub; none of what is made here."""
        if "/" not in repository:
            return 0.0
        found = self.assumptions.downloads.get(repository)
        if found is None:
            self.unknown[f"bytes of {repository}"] = "priced as none"
        return found.value if found else 0.0

    # Models

    def root(self, model: Stage) -> Stage:
        """The checkpoint that a model was trained from, at first: all of them run equally fast."""
        before = self.work(model).model
        return model if before is None else self.root(before)

    def name(self, model: Stage) -> str:
        """What a model's root is called in assumptions and in the table of speeds."""
        root = self.root(model)
        return root.source if isinstance(root, Checkpoint) else str(getattr(root, "name", root.key))

    def size(self, model: Stage) -> Size | None:
        """The size of a model: of its root's weights where they are here, else as assumed."""
        name = self.name(model) if not isinstance(model, Checkpoint) else model.source
        if name not in self._sizes:
            root = model if isinstance(model, Checkpoint) else self.root(model)
            assumed = self.assumptions.models.get(name)
            found = assumed or weighed(self.folder(root))
            if found is None:
                self.unknown[f"size of {name}"] = "not priced"
            self._sizes[name] = found
        return self._sizes[name]

    def folder(self, model: Stage) -> Path | None:
        """Where a checkpoint's files are on this machine; None where they are not."""
        places = [self.store.path(model) / "model"]
        if isinstance(model, Checkpoint):
            local = model.path or (model.find_local(self.data)[0] if model.revision else None)
            places += [local] if local else []
        return next((place for place in places if place.is_dir()), None)

    # Disk

    def text_bytes(self, found: Volume) -> float:
        """Of a JSONL file of generations: every text stands there whole and in its parts."""
        total = found.total
        tokens = total.prompt + total.response
        return total.rows * ROW_BYTES + 2 * tokens * self.assumptions.bytes_per_token.value


def thinned(found: Volume, share: float) -> Volume:
    """What is left where each row stays with a chance of `share`: a question goes with its last row."""

    def left(amount: Amount) -> Amount:
        gone = (1 - share) ** (amount.rows / amount.questions) if amount.questions else 0.0
        return amount.part(amount.rows * share, amount.questions * (1 - gone))

    return Volume(domains={domain: left(amount) for domain, amount in found.domains.items()})


def some(found: Volume, rows: float) -> Volume:
    """So many rows of all domains in proportion; all of them where there are not as many."""
    share = min(1.0, rows / found.total.rows) if found.total.rows else 0.0
    parts = found.domains.items()
    return Volume(
        domains={domain: one.part(one.rows * share, one.questions * share) for domain, one in parts}
    )


def generation(
    stage: Stage, service: Service, estimator: Estimator, setting: str = "", logprobs: bool = False
) -> Work:
    """The work of a stage whose rows a served model writes."""
    volume = estimator.volume(stage)
    total = volume.total
    return Work(
        kind="generate",
        model=service.model,
        engine=service.engine,
        requests=total.rows,
        tokens_in=total.prompt,
        tokens_out=total.response,
        context=(total.prompt + total.response / 2) / max(total.rows, 1),
        disk=estimator.text_bytes(volume) + (ARROW_BYTES * total.response if logprobs else 0),
        setting=setting,
    )


def drawn(sampling: Sampling) -> str:
    """A sampling in words: `T 0.6, 4 draws, up to 65,536 tokens`."""
    words = [f"T {sampling.temperature}"]
    words += [f"top-p {sampling.top_p}"] if sampling.top_p != 1.0 else []
    words += [f"{sampling.draws} draws"] if sampling.draws != 1 else []
    return ", ".join([*words, f"up to {sampling.max_tokens:,} tokens"])


# Measuring ----------------------------------------------------------------------------------


class Told(msgspec.Struct):
    domain: str = ""


class Counted(msgspec.Struct):
    """What is counted of a Generation."""

    question: str
    prompt_tokens: int
    completion_tokens: int
    kept: Told


class Posed(msgspec.Struct):
    """What is counted of a Question."""

    domain: str
    prompt: str


def count(folder: Path, bytes_per_token: float) -> Volume | None:
    """The rows of a finished stage; None where it has neither generations nor questions."""
    if (folder / "generations.jsonl").exists():
        return Volume(domains=count_generations(folder / "generations.jsonl"), measured=True)
    if (folder / "questions.jsonl").exists():
        found: dict[str, Amount] = defaultdict(Amount)
        for row in read_rows(folder / "questions.jsonl", Posed):
            tokens = len(row.prompt.encode()) / bytes_per_token
            found[row.domain] += Amount(rows=1, questions=1, prompt=tokens)
        return Volume(domains=dict(found), measured=True)
    return None


def count_generations(file: Path) -> dict[str, Amount]:
    rows: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    questions: dict[str, set[str]] = defaultdict(set)
    for row in read_rows(file, Counted):
        sums = rows[row.kept.domain]
        sums[0] += 1
        sums[1] += row.prompt_tokens
        sums[2] += row.completion_tokens
        questions[row.kept.domain].add(row.question)
    return {
        domain: Amount(rows=sums[0], questions=len(questions[domain]), prompt=sums[1], response=sums[2])
        for domain, sums in rows.items()
    }


def weighed(folder: Path | None) -> Size | None:
    """The size of a dense checkpoint, from the headers of its weights; None where they have none."""
    files = sorted(folder.glob("*.safetensors")) if folder else []
    if not files:
        return None
    try:
        parameters = float(sum(math.prod(shape) for file in files for shape in shapes(file)))
    except (struct.error, ValueError, TypeError, KeyError, AttributeError):
        return None
    total = float(sum(file.stat().st_size for file in files))
    if not parameters:
        return None
    return Size(parameters=parameters, active=parameters, bytes=total, source="its weights")


def shapes(file: Path) -> Iterator[list[int]]:
    """The shapes of a safetensors file: its first 8 bytes are the length of a JSON header."""
    with file.open("rb") as content:
        (length,) = struct.unpack("<Q", content.read(8))
        header = json.loads(content.read(min(length, LARGEST_HEADER)))
    return (tensor["shape"] for name, tensor in header.items() if name != "__metadata__")


def used(folder: Path) -> float:
    """Bytes of the files below a folder."""
    return float(sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file()))
