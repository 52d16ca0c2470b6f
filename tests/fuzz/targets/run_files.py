"""The JSON files of a run's folder, which was copied from elsewhere or moved in part.

The first byte says which file it is: (i)dentity, (r)ecipe, (s)ession, stage (m)anifest, (l)abels, le(n)gths.
"""

from dataclasses import dataclass

from benchmarks.micro import micro_math
from harness.errors import HarnessError
from harness.integrity import MANIFEST
from harness.lengths import lengths
from harness.runs import RECIPE, commands_of, compared_with, evaluations, order_of
from harness.session import check_session
from harness.stage import Stage
from harness.store import LABELS, RunStore
from reports.view.found import find_evaluations
from tests.fuzz.folder import folder

REFUSALS = (HarnessError,)
WORDS = (
    b'{"class":"Mark"', b'"asked":"ask-1"', b'"grader":1', b'"grading":{}',
    b'"benchmark":{"class":"MicroMath"', b'"model":"m"', b'"engine":"remote"', b'"system":null',
    b'"sampling":null', b'"limit":null', b'"rows":["a"]', b'"benchmarks":["b"]', b'"commands":[["harness"]]',
    b'"published":"x"', b'"claimed":', b"[]", b"{}", b"null", b"NaN", b'"../../x"', b'"eval/a/b":"mark-1"',
    b'"bytes":0', b'"key":', b"\\ud800", b"9" * 40,
)  # fmt: skip
BENCHMARKS = {"micro_math": micro_math}


@dataclass(frozen=True, kw_only=True)
class Any(Stage):
    name: str = "a"


def read(data: bytes) -> None:
    store, kind, rest = RunStore(folder() / "runs"), data[:1], data[1:]
    run, mark, ask = store.root / "n", store.stages / "mark-1", store.stages / "ask-1"
    for home in (run / "eval" / "a", mark, ask, store.stages / ".measured", store.path(Any())):
        home.mkdir(parents=True, exist_ok=True)
    link = run / "eval" / "a" / "b"
    if not link.is_symlink():
        link.symlink_to(mark)
        (mark / "identity.json").write_bytes(b'{"class":"Mark","asked":"ask-1","grader":1}')
    match kind:
        case b"r":
            (run / RECIPE).write_bytes(rest)
            order_of(run), compared_with(store, "n"), commands_of(store, "n")
        case b"s":
            (run / "session.json").write_bytes(rest)
            check_session(run / "session.json", {"engine": "a"}, has_rows=True)
        case b"m":
            (store.path(Any()) / MANIFEST).write_bytes(rest)
            store.manifest(Any())
        case b"l":
            (run / LABELS).write_bytes(rest)
            store.note("n", {"a": Any()})
            find_evaluations(store, "n")
        case b"n":
            (store.stages / ".measured" / "ask-1.lengths.json").write_bytes(rest)
            (ask / "generations.jsonl").write_bytes(b"")
            lengths(store.stages, "ask-1")
        case _:
            first, _, second = rest.partition(b"\xfe")
            if second:
                (mark / "identity.json").write_bytes(second)
            (ask / "identity.json").write_bytes(first)
            try:
                evaluations(store, "n", BENCHMARKS)
            finally:
                (mark / "identity.json").write_bytes(b'{"class":"Mark","asked":"ask-1","grader":1}')
