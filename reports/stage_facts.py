"""What each finished stage took and left: rows, tokens, seconds, device-hours, money, by its own records."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.cost import Estimator, Kind, Work, drawn
from harness.evaluate import Ask, Mark
from harness.integrity import MANIFEST
from harness.lengths import lengths
from harness.plan import COMPUTING
from harness.stage import Stage, ordered
from harness.store import RunStore, State, readable

READS = ("responses", "data", "drafts", "questions", "asked", "mixed", "off_policy")
"""Fields whose stages hold the rows that a stage works on; models, and what only compares, are others."""
ELSEWHERE = ("remote", "batch")
"""Engines whose hardware nobody here knows."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One stage of a run. Rows, tokens, seconds; None where it has none or nobody wrote them down.

    `continued` says that `seconds` are not those of all the work: an earlier start left some, or rows were
    taken over from another run. `hours` and `cost` are then the least. `workplace` is where it was finished,
    empty for what an earlier version ran.
    """

    name: str
    stage: Stage
    path: Path
    state: State
    kind: Kind = "none"
    engine: str = ""
    setting: str = ""
    rows_in: int | None = None
    rows_out: int | None = None
    tokens_in: float | None = None
    tokens_out: float | None = None
    seconds: float | None = None
    finished: str = ""
    continued: bool = False
    workplace: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float | None:
        """Tokens a second of the whole machine: written, or read where nothing is written."""
        tokens = self.tokens_out if self.kind == "generate" else self.tokens_in
        return tokens / self.seconds if tokens and self.seconds and not self.continued else None

    @property
    def device(self) -> str:
        """What computed: GPU, CPU, or nothing where that is not known or nothing computed."""
        if self.kind not in COMPUTING or self.engine in ELSEWHERE or not self.workplace:
            return ""
        return "GPU" if self.workplace["gpus"] else "CPU"

    @property
    def hours(self) -> float | None:
        """Device-hours: of all GPUs that the machine may use, or of the one machine without."""
        if not self.device or self.seconds is None:
            return None
        devices: int = max(1, self.workplace["gpus"])
        nodes: int = self.workplace["nodes"] if self.kind == "train" else 1
        return self.seconds / 3600 * devices * nodes

    @property
    def cost(self) -> float | None:
        """Of GPU-hours where machine.toml told a price."""
        price: float = self.workplace.get("price_per_gpu_hour", 0.0)
        return self.hours * price if price and self.hours is not None and self.device == "GPU" else None

    @property
    def currency(self) -> str:
        return str(self.workplace.get("currency", ""))


def facts(store: RunStore, labels: Mapping[str, Stage]) -> list[Facts]:
    """Of all stages that a run is made of, those that they read included, in the order of the recipe."""
    names, estimator = readable(dict(labels)), Estimator(store)
    return [told(store, stage, names[stage.key], estimator) for stage in ordered(list(labels.values()))]


def told(store: RunStore, stage: Stage, name: str, estimator: Estimator) -> Facts:
    path, state = store.path(stage), store.state(stage)
    if state != "done":
        return Facts(name=name, stage=stage, path=path, state=state, rows_out=store.rows(stage) or None)
    manifest = store.manifest(stage)
    store.whole(stage)
    work = work_of(stage, estimator)
    tokens_in, tokens_out = tokens(store, stage, estimator)
    return Facts(
        name=name,
        stage=stage,
        path=path,
        state=state,
        kind=work.kind,
        engine=work.engine,
        setting=work.setting,
        rows_in=rows_in(store, stage),
        rows_out=manifest.get("rows") or trained_rows(path),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        seconds=manifest.get("seconds"),
        finished=manifest.get("finished", ""),
        continued=manifest.get("resumed", False) or adopted(path),
        workplace=manifest.get("workplace", {}),
    )


def work_of(stage: Stage, estimator: Estimator) -> Work:
    """What a stage did. An evaluation's tokens are not counted here: that would read all its responses."""
    match stage:
        case Ask():
            return Work(kind="generate", engine=stage.engine, setting=drawn(stage.drawn))
        case Mark():
            return Work(kind="grade")
    return estimator.work(stage)


def tokens(store: RunStore, stage: Stage, estimator: Estimator) -> tuple[float | None, float | None]:
    """Tokens that a model read and wrote. Of evaluations they come from the lengths that were kept."""
    path = store.path(stage)
    if isinstance(stage, Ask):
        found = lengths(store.stages, stage.key)
        return sum(one.prompt for one in found) or None, sum(one.completion for one in found) or None
    if (path / "training.json").exists():
        return load(path / "training.json")["tokens"], None
    work = work_of(stage, estimator)
    return (work.tokens_in or None, work.tokens_out or None) if work.kind in COMPUTING else (None, None)


def rows_in(store: RunStore, stage: Stage) -> int | None:
    """The rows of the stages that this one works on; of a collection, the questions that it looked at."""
    path = store.path(stage)
    if (path / "sources.json").exists():
        looked_at: int = sum(one["taken"] + one["removed"] for one in load(path / "sources.json"))
        return looked_at
    read = [stage.identity.get(name) for name in READS]
    counts = [rows_of(store.stages / key) for key in read if isinstance(key, str)]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def rows_of(path: Path) -> int | None:
    if not (path / MANIFEST).is_file():
        return None
    count: int | None = load(path / MANIFEST).get("rows")
    return count


def trained_rows(path: Path) -> int | None:
    return load(path / "training.json")["rows"] if (path / "training.json").exists() else None


def adopted(path: Path) -> bool:
    """Whether an Ask took over draws of another one."""
    return (path / "asked.json").exists() and bool(load(path / "asked.json").get("adopted"))


def load(path: Path) -> Any:
    return json.loads(path.read_bytes())


def evaluations(found: list[Facts]) -> Iterator[tuple[Facts, Facts]]:
    """Each graded evaluation: its Ask and its Mark."""
    by_key = {one.stage.key: one for one in found}
    for one in found:
        if isinstance(one.stage, Mark):
            yield by_key[one.stage.asked.key], one
