"""What differs from the protocol under which the claimed values were measured."""

from collections.abc import Iterator, Mapping, Sequence

from harness.evaluate import Mark
from harness.session import SESSION
from harness.stage import Stage
from harness.store import RunStore
from reports.discreet import discreet
from reports.published import Protocol, Published
from reports.stage_facts import load
from reports.table import Entry

NEUTRAL = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}


def differences(
    store: RunStore, labels: Mapping[str, Stage], entries: Sequence[Entry], published: Published | None
) -> Iterator[str]:
    """A sentence for each difference, with the rows and benchmarks that it is about; then what the source of
    the claims does not tell, and with which engine it was done here."""
    if published is None or published.protocol is None:
        return
    asked = [
        (entry, mark)
        for entry in entries
        if entry.published is not None and entry.questions
        if isinstance(mark := labels.get(f"eval/{entry.row}/{entry.benchmark}"), Mark)
    ]
    where: dict[str, list[Entry]] = {}
    for entry, mark in asked:
        for told in differing(entry, mark, published, published.protocol):
            where.setdefault(told, []).append(entry)
    for told, own in where.items():
        yield f"{told} ({places(own, [entry for entry, _ in asked])})"
    if asked and published.protocol.silent:
        here = dict.fromkeys(session(store, mark) for _, mark in asked)
        yield (
            f"{published.protocol.source} does not tell {', '.join(published.protocol.silent)}; "
            f"here: {'; '.join(here)}, and as listed under Provenance"
        )


def differing(entry: Entry, mark: Mark, published: Published, theirs: Protocol) -> Iterator[str]:
    """How one evaluation was asked otherwise than the claims' protocol says."""
    ours, limit = mark.asked.drawn, theirs.max_tokens.get(entry.benchmark)
    pairs = (
        ("responses a question", ours.draws, published.draws),
        ("temperature", ours.temperature, theirs.temperature),
        ("top-p", ours.top_p, theirs.top_p),
        ("token limit of a response", ours.max_tokens, limit),
    )
    for name, own, claimed in pairs:
        if claimed is not None and own != claimed:
            yield f"{name}: {own:,} here, {claimed:,} in {theirs.source}"
    for name, neutral in NEUTRAL.items():
        if (value := getattr(ours, name)) != neutral:
            yield f"{name.replace('_', ' ')}: {value:g} here, not named in {theirs.source}"
    if mark.asked.limit is not None:
        yield f"only the first {mark.asked.limit} questions were asked"


def places(own: Sequence[Entry], everyone: Sequence[Entry]) -> str:
    """`all`, or the rows with their benchmarks: `final: aime24, aime25`."""
    if len(own) == len(everyone):
        return "all"
    rows = dict.fromkeys(one.row for one in own)
    return "; ".join(f"{row}: {', '.join(one.benchmark for one in own if one.row == row)}" for row in rows)


def session(store: RunStore, mark: Mark) -> str:
    """The engine that wrote the answers, with its version and precision."""
    file = store.path(mark.asked) / SESSION
    if not file.exists():
        return f"{mark.asked.engine}, no version recorded"
    told = load(file)
    return discreet(" ".join(str(told[name]) for name in ("engine", "version", "dtype") if told.get(name)))
