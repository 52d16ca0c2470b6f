"""What was changed after it was written is found out when it is read, and can be made again."""

import json
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness import places
from harness.answering import Response
from harness.errors import DataError
from harness.files import write_json
from harness.integrity import of_an_input, read_manifest
from harness.mend import mend
from harness.rows import (
    FlippedError,
    Key,
    RowFile,
    count_rows,
    follow_rows,
    keys_of,
    read_in_order,
    read_rows,
    read_wanted,
)
from harness.store import RunStore
from harness.types import Generation
from harness.verify import damages, stages_of
from tests.answered import Place, answer, answered, flip
from tests.pipeline.rows import row


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with answered(tmp_path) as found:
        yield found


def written(path: Path, draws: int) -> Path:
    with RowFile(path) as file:
        file.append(Response(row=replace(row("one and\u2028two", "q"), draw=draw)) for draw in range(draws))
    return path


def followed(path: Path) -> list[Key | None]:
    ended = threading.Event()
    ended.set()
    return list(follow_rows(path, Key, ended))


@pytest.mark.parametrize(
    "read",
    [
        lambda path: list(read_rows(path, Generation)),
        lambda path: list(read_in_order(path, Generation)),
        lambda path: list(read_wanted(path, Generation, lambda key: True)),
        followed,
    ],
)
def test_no_flipped_bit_of_a_row_is_read_as_if_it_were_none(
    tmp_path: Path, read: Callable[[Path], list[object]]
) -> None:
    path = written(tmp_path / "generations.jsonl", 4)
    whole, told = path.read_bytes(), places.file_of(path).read_bytes()
    rng = random.Random("flips of rows")
    for at in rng.sample(range(len(whole) - 1), 150):
        path.write_bytes(whole)
        places.file_of(path).write_bytes(told)
        flip(path, at, 1 << rng.randrange(8))
        with pytest.raises(DataError, match="line"):
            read(path)


def test_a_flipped_key_is_not_asked_for_again_under_the_places(tmp_path: Path) -> None:
    """Else the row would be there twice: as what it was, and as what it seems to be."""
    path = written(tmp_path / "generations.jsonl", 4)
    flip(path, path.read_bytes().rindex(b'"draw":3') + 7)
    assert keys_of(path) == {("q", draw) for draw in range(4)}
    with pytest.raises(FlippedError, match="line 4"):
        list(read_in_order(path, Key))
    assert keys_of(path) == {("q", draw) for draw in range(4)}


def test_places_of_an_earlier_version_count_and_compare_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "generations.jsonl", 3)
    old = [replace_content(place) for place in places.told(path)]
    places.write(path, old)
    assert places.told(path) == old
    flip(path, path.read_bytes().index(b"one and"))
    assert len(list(read_in_order(path, Generation))) == 3


def replace_content(place: places.Place) -> places.Place:
    return places.Place(place.question, place.draw, place.end)


def test_a_file_of_a_finished_stage_that_changed_is_neither_an_input_nor_reported(
    place: Place,
) -> None:
    store, context, mark = place
    grades = store.path(mark) / "grades.jsonl"
    flip(grades, grades.read_bytes().index(b'"extracted":"') + 13)
    with pytest.raises(DataError, match=r"grades\.jsonl is not what its stage wrote"):
        store.whole(mark)
    with pytest.raises(DataError, match=r"harness verify --mend"):
        context.path(mark)


def test_a_stage_that_an_earlier_version_finished_is_believed(place: Place) -> None:
    store, context, mark = place
    write_json(store.path(mark) / "stage.json", {"key": mark.key, "seconds": 1.0})
    grades = store.path(mark) / "grades.jsonl"
    flip(grades, grades.read_bytes().index(b'"extracted":"') + 13)
    assert context.path(mark) == store.whole(mark) == store.path(mark)


def test_no_flipped_bit_of_stage_json_is_believed(place: Place) -> None:
    store, _, mark = place
    file = store.path(mark) / "stage.json"
    whole = file.read_bytes()
    for at in random.Random("flips of stage.json").sample(range(len(whole)), 200):
        file.write_bytes(whole)
        flip(file, at)
        try:
            assert read_manifest(store.path(mark)) == json.loads(whole)
        except DataError as error:
            assert "harness verify" in error.remedy  # noqa: PT017


def test_only_damaged_rows_and_the_verdicts_on_them_are_made_again(
    place: Place,
) -> None:
    store, context, mark = place
    rows, grades = store.path(mark.asked) / "generations.jsonl", store.path(mark) / "grades.jsonl"
    before, verdicts = rows.read_bytes(), grades.read_bytes()
    flip(rows, before.rindex(b"boxed{") + 6)
    (found,) = [one for key in stages_of(store, "mine") for one in damages(store.stages / key)]
    assert found.file == "generations.jsonl"
    assert found.lines == (10,)

    said = "\n".join(mend(store, [found]))
    assert "1 rows are now in generations.jsonl.damaged" in said
    assert count_rows(rows) == 9
    assert store.state(mark.asked) == store.state(mark) == "partial"
    assert rows.with_name("generations.jsonl.damaged").read_bytes().count(b"\n") == 1

    answer(store, mark.asked)
    fresh = RunStore(store.root)
    fresh.build(mark.asked, context)
    fresh.build(mark, context)
    assert (rows.read_bytes(), grades.read_bytes()) == (before, verdicts)
    assert not [one for key in stages_of(fresh, "mine") for one in damages(fresh.stages / key)]


def test_a_file_that_cannot_be_mended_by_rows_is_put_aside_as_a_whole(
    place: Place,
) -> None:
    store, context, mark = place
    grades = store.path(mark) / "grades.jsonl"
    before = grades.read_bytes()
    flip(grades, before.index(b'"extracted":"') + 13)
    list(mend(store, damages(store.path(mark))))
    assert not grades.exists()
    assert store.state(mark.asked) == "done"
    RunStore(store.root).build(mark, context)
    assert grades.read_bytes() == before


def test_a_stage_json_that_was_put_aside_is_written_again_and_nothing_is_asked(place: Place) -> None:
    store, context, mark = place
    rows, grades = (store.path(mark.asked) / "generations.jsonl", store.path(mark) / "grades.jsonl")
    before = rows.read_bytes(), grades.read_bytes()
    flip(store.path(mark.asked) / "stage.json", 5)
    list(mend(store, damages(store.path(mark.asked))))
    assert store.state(mark.asked) == store.state(mark) == "partial"
    fresh = RunStore(store.root)
    fresh.build(mark.asked, context)
    fresh.build(mark, context)
    assert (rows.read_bytes(), grades.read_bytes()) == before


def test_a_damaged_identity_is_restored_from_stage_json(place: Place) -> None:
    store, _, mark = place
    file = store.path(mark.asked) / "identity.json"
    before = file.read_bytes()
    flip(file, before.index(b"draws"))
    list(mend(store, damages(file.parent)))
    assert json.loads(file.read_bytes()) == json.loads(before)
    assert store.state(mark.asked) == "done"
    assert not list(damages(file.parent))


def test_a_checkpoint_with_a_flipped_bit_is_not_served_and_moves_aside(
    place: Place,
) -> None:
    from harness.hub import local_checkpoint

    store, context, _ = place
    base = local_checkpoint(Path(__file__).parents[1] / "pipeline" / "micro" / "base")
    store.build(base, context)
    weights = next(store.path(base).glob("model/*.safetensors"))
    before = weights.read_bytes()
    flip(weights, len(before) - 99, 64)
    with pytest.raises(DataError, match="SHA-256"):
        RunStore(store.root).whole(base, of_an_input)
    list(mend(store, damages(store.path(base))))
    assert (store.stages / ".damaged" / base.key).is_dir()
    store.build(base, context)
    assert weights.read_bytes() == before
