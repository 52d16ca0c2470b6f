"""Identities and the store: order does not matter, every field does, and a kill loses nothing."""

import json
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from harness.files import write_whole
from harness.integrity import MANIFEST
from harness.machine import Machine
from harness.progress import PlainProgress
from harness.rows import RowFile, key_of, keys_of, read_rows
from harness.serve import ServerPool
from harness.stage import Stage
from harness.store import Context, RunStore, differences
from harness.types import Generation, Sampling
from tests.properties.profile import examples
from tests.properties.test_rows import Append, made

VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=4)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


class Killed(BaseException):
    """The process ends here: nothing that comes after it is done."""


@dataclass(frozen=True, kw_only=True)
class Holds(Stage):
    """A stage with a setting of any shape."""

    value: Any = None
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=1.0, max_tokens=5))
    after: Stage | None = None


@dataclass(frozen=True, kw_only=True)
class Rows(Stage):
    """Writes a row for each of so many draws, and is killed after as many as `KILLS` says."""

    draws: int

    def run(self, out: Path, context: Context) -> None:
        with RowFile(out / "generations.jsonl") as file:
            for draw in range(self.draws):
                if file.claim(("q", draw)):
                    if KILLS and KILLS[0] <= draw:
                        KILLS.pop(0)
                        raise Killed
                    file.append([made(Append(("q", draw), f"text {draw}"))])


KILLS: list[int] = []


@examples(150)
@given(st.dictionaries(st.text(max_size=4), VALUE, min_size=2, max_size=4))
def test_the_order_in_which_settings_are_written_does_not_matter(settings: dict[str, Any]) -> None:
    turned = dict(reversed(list(settings.items())))
    assert Holds(value=settings).key == Holds(value=turned).key
    assert not list(differences(Holds(value=settings).identity, Holds(value=turned).identity))


@examples(200)
@given(VALUE, VALUE)
def test_two_stages_have_one_key_exactly_where_their_settings_are_one(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (Holds(value=one).key == Holds(value=other).key) is same
    assert (Holds(after=Holds(value=one)).key == Holds(after=Holds(value=other)).key) is same
    if not same:
        assert list(differences(Holds(value=one).identity, Holds(value=other).identity))


@examples(60)
@given(st.sampled_from(["temperature", "top_p", "max_tokens", "seed", "draws", "top_k", "min_p"]))
def test_every_sampling_setting_changes_the_key_of_a_stage_and_of_what_follows(name: str) -> None:
    before = Sampling(temperature=1.0, max_tokens=5)
    after = replace(before, **{name: getattr(before, name) + 1})
    first, second = Holds(sampling=before), Holds(sampling=after)
    assert first.key != second.key
    assert Holds(after=first).key != Holds(after=second).key
    told = [line.partition(":")[0] for line in differences(first.identity, second.identity)]
    assert told == [f"sampling.{name}"]


@examples(60)
@given(st.integers(1, 6), st.lists(st.integers(0, 6), max_size=5), st.booleans())
def test_a_stage_killed_any_number_of_times_has_the_rows_of_one_that_was_not(
    draws: int, kills: list[int], torn: bool
) -> None:
    stage = Rows(draws=draws)
    KILLS[:] = kills
    with tempfile.TemporaryDirectory() as name, ServerPool(Machine()) as pool:
        store = RunStore(Path(name) / "runs")
        context = Context(store, Machine(), PlainProgress(), pool)
        rows = store.path(stage) / "generations.jsonl"
        while store.state(stage) != "done":
            try:
                store.build(stage, context)
            except Killed:
                assert store.state(stage) == "partial"
                if torn:
                    with rows.open("ab") as file:
                        file.write(b'{"question":"q","dra')
        KILLS.clear()
        assert [key_of(row) for row in read_rows(rows, Generation)] == [("q", draw) for draw in range(draws)]
        before = (store.path(stage) / MANIFEST).read_bytes()
        store.build(stage, context)
        assert (store.path(stage) / MANIFEST).read_bytes() == before
        assert keys_of(rows) == {("q", draw) for draw in range(draws)}


@examples(100)
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_a_file_that_is_written_whole_is_the_old_one_or_the_new_one(before: bytes, after: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "file"
        write_whole(path, before)
        write_whole(path, after)
        assert path.read_bytes() == after
        assert [each.name for each in Path(name).iterdir()] == ["file"]
