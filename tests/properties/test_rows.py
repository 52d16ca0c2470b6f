"""Rows survive every order of appends, torn ends and lost or wrong places: each whole one is there once."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from harness import places
from harness.answering import Response
from harness.rows import Key, RowFile, count_rows, key_of, keys_of, read_in_order, read_rows, read_wanted
from harness.tokens import TokenFile, TokenIndex, tokens
from harness.types import Generation
from tests.pipeline.rows import row
from tests.properties.profile import examples

QUESTION = st.text(alphabet=st.characters(exclude_categories=("Cs",)), min_size=1, max_size=6)
KEYS = st.lists(st.tuples(QUESTION, st.integers(0, 3)), min_size=1, max_size=8, unique=True)


@dataclass(frozen=True)
class Append:
    key: tuple[str, int]
    text: str


@dataclass(frozen=True)
class Tear:
    """The last bytes are gone, as after a crash of the machine."""

    lost: int


@dataclass(frozen=True)
class Forget:
    """The file of places is gone, or is one of other rows, or ends too early."""

    how: str


TEXT = st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=40)
STEPS = st.lists(
    st.one_of(
        st.builds(Append, st.tuples(QUESTION, st.integers(0, 2)), TEXT),
        st.builds(Tear, st.integers(1, 300)),
        st.builds(Forget, st.sampled_from(["gone", "garbage", "short", "other"])),
    ),
    min_size=1,
    max_size=12,
)


def made(step: Append) -> Response:
    return Response(row=replace(row(step.text, step.key[0]), draw=step.key[1]))


def tear(path: Path, lost: int, kept: list[Append]) -> list[Append]:
    """What is left after the last bytes went: the rows whose line feed is still there."""
    data = path.read_bytes()[:-lost]
    path.write_bytes(data)
    return kept[: data.count(b"\n")]


def damage_places(path: Path, how: str) -> None:
    file = places.file_of(path)
    whole = file.read_bytes() if file.exists() else b""
    match how:
        case "gone":
            file.unlink(missing_ok=True)
        case "garbage":
            file.write_bytes(whole + b"\x00\xff\n")
        case "short":
            file.write_bytes(whole[: len(whole) // 2])
        case "other":
            file.write_bytes(b'["elsewhere",0,7]\n' + whole)


@examples(80)
@given(STEPS)
def test_any_sequence_of_appends_torn_ends_and_damaged_places_leaves_exactly_the_whole_rows(
    steps: list[Append | Tear | Forget],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "generations.jsonl"
        path.touch()
        kept: list[Append] = []
        for step in steps:
            match step:
                case Append():
                    with RowFile(path) as file:
                        if file.claim(step.key):
                            file.append([made(step)])
                            kept.append(step)
                        assert not file.claim(step.key)
                case Tear():
                    kept = tear(path, step.lost, kept)
                case Forget():
                    damage_places(path, step.how)
            assert keys_of(path) == {one.key for one in kept}
            assert count_rows(path) == len(kept)
        found = list(read_rows(path, Generation))
        assert [(key_of(one), one.text) for one in found] == [(one.key, one.text) for one in kept]
        assert [key_of(one) for one in read_in_order(path, Key)] == sorted(one.key for one in kept)


@examples(60)
@given(KEYS, st.data())
def test_what_is_wanted_is_what_is_given_in_the_order_of_the_file(
    keys: list[tuple[str, int]], data: st.DataObject
) -> None:
    wanted = set(data.draw(st.lists(st.sampled_from(keys))))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "generations.jsonl"
        with RowFile(path) as file:
            file.append(made(Append(key, "x")) for key in keys)
        found = [key_of(one) for one in read_wanted(path, Generation, wanted.__contains__)]
    assert found == [key for key in keys if key in wanted]


COUNTS = st.lists(st.integers(0, 5), min_size=1, max_size=6)


@examples(60)
@given(COUNTS, st.integers(0, 2000))
def test_a_token_file_cut_anywhere_keeps_its_whole_responses_and_can_be_gone_on_with(
    counts: list[int], cut: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "tokens.arrow"
        ends = []
        with TokenFile(path) as file:
            for draw, count in enumerate(counts):
                file.append(("q", draw), tokens(range(count), [-1.0] * count, [1] * count))
                ends.append(path.stat().st_size)
        left = max(0, ends[-1] - cut)
        path.write_bytes(path.read_bytes()[:left])
        with TokenFile(path) as file:
            assert file.keys == {("q", draw) for draw, end in enumerate(ends) if end <= left}
            file.append(("later", 0), tokens([1], [-0.5], [1]))
        index = TokenIndex(path)
        assert {key: len(index[key].logprobs) for key in index} == {
            **{("q", draw): counts[draw] for draw, end in enumerate(ends) if end <= left},
            ("later", 0): 1,
        }
