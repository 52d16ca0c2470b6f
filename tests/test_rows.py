"""Files of rows: what is read of them after a crash at any byte, and while they grow."""

import resource
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from harness import places
from harness.answering import Response
from harness.errors import DataError
from harness.rows import (
    Key,
    RowFile,
    count_rows,
    follow_rows,
    keys_of,
    read_in_order,
    read_rows,
    read_wanted,
)
from harness.types import Generation
from tests.pipeline.rows import row

KEYS = [("b", 0), ("a", 1), ("ü", 0), ("a", 0)]


def written(path: Path, keys: Iterable[tuple[str, int]] = KEYS) -> Path:
    with RowFile(path) as file:
        for question, draw in keys:
            file.append([Response(row=replace(row(f"{question}\u2028{draw}", question), draw=draw))])
    return path


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return written(tmp_path / "generations.jsonl")


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """No file grows beyond so many bytes: the system writes what fits, and then fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def response(question: str, draw: int) -> Response:
    return Response(row=replace(row("x", question), draw=draw))


def scanned(path: Path) -> list[tuple[str, int]]:
    """The keys by reading every row."""
    return [(one.question, one.draw) for one in read_rows(path, Key)]


def test_the_places_tell_the_keys_without_the_rows_being_read(rows: Path) -> None:
    content = rows.read_bytes()
    middle = content.index(b"\n") + 30
    rows.write_bytes(content[:middle] + b'"' + content[middle + 1 :])
    assert keys_of(rows) == set(KEYS)
    assert count_rows(rows) == 4
    with pytest.raises(DataError, match="line 2"):
        list(read_rows(rows, Generation))
    with pytest.raises(DataError, match="line 2"):
        list(read_in_order(rows, Generation))


def test_a_file_without_places_is_read(rows: Path) -> None:
    places.file_of(rows).unlink()
    assert keys_of(rows) == set(KEYS)
    assert count_rows(rows) == 4
    assert [(one.question, one.draw) for one in read_in_order(rows, Generation)] == sorted(KEYS)


def test_keys_are_right_after_a_crash_at_any_byte_of_both_files(rows: Path) -> None:
    """A killed process leaves places that lack rows; lost power may leave rows that lack what is told."""
    content, told = rows.read_bytes(), places.file_of(rows).read_bytes()
    for end in range(0, len(content) + 1, 7):
        rows.write_bytes(content[:end])
        expected = set(scanned(rows))
        for torn in range(0, len(told) + 1, 3):
            places.file_of(rows).write_bytes(told[:torn])
            assert keys_of(rows) == expected, (end, torn)
            assert count_rows(rows) == len(expected), (end, torn)


@pytest.mark.parametrize("ends", [(0.4, 1.0), (0.7, 0.5), (1.0, 0.7), (0.0, 1.0)])
def test_writing_goes_on_after_a_crash(rows: Path, ends: tuple[float, float]) -> None:
    for file, end in zip((rows, places.file_of(rows)), ends, strict=True):
        file.write_bytes(file.read_bytes()[: int(end * len(file.read_bytes()))])
    written(rows, [key for key in KEYS if key not in keys_of(rows)])
    assert sorted(scanned(rows)) == sorted(KEYS)
    assert [place.end for place in places.told(rows)][-1] == rows.stat().st_size
    assert [(place.question, place.draw) for place in places.told(rows)] == scanned(rows)


def test_places_of_another_file_count_for_nothing(rows: Path, tmp_path: Path) -> None:
    other = written(tmp_path / "other.jsonl", [("c", draw) for draw in range(9)])
    places.file_of(other).rename(places.file_of(rows))
    assert keys_of(rows) == set(KEYS)


def test_a_line_that_was_taken_out_by_hand_is_asked_again(rows: Path) -> None:
    lines = rows.read_bytes().splitlines(keepends=True)
    rows.write_bytes(b"".join([*lines[:1], *lines[2:], lines[0].replace(b'"b"', b'"d"')]))
    assert keys_of(rows) == {("b", 0), ("ü", 0), ("a", 0), ("d", 0)}


def test_a_line_that_others_appended_is_read_too(rows: Path) -> None:
    """Rows that are adopted come without places."""
    with rows.open("ab") as file:
        file.write(msgspec.json.encode(row("x", "late")) + b"\n" + b'{"question": "half a')
    assert keys_of(rows) == {*KEYS, ("late", 0)}
    assert count_rows(rows) == 5


def test_wanted_rows_come_in_the_order_of_the_file(rows: Path) -> None:
    found = read_wanted(rows, Generation, {("a", 0), ("a", 1)}.__contains__)
    assert [one.text for one in found] == ["a\u20281", "a\u20280"]


def test_a_growing_file_is_followed_over_a_torn_line_that_its_writer_cuts_off(tmp_path: Path) -> None:
    path, ended, found = tmp_path / "generations.jsonl", threading.Event(), list[int | None]()

    def follow() -> None:
        for one in follow_rows(path, Key, ended):
            found.append(one and one.draw)

    follower = threading.Thread(target=follow)
    follower.start()
    path.write_bytes(msgspec.json.encode(Key(question="q", draw=1)) + b'\n{"question": "q", "draw": 77')
    while 1 not in found:
        pass
    written(path, [("q", 2), ("q", 3)])
    ended.set()
    follower.join()
    assert [draw for draw in found if draw is not None] == [1, 2, 3]
    assert found[0] is None or found[0] == 1


def test_of_a_followed_file_only_what_is_wanted_is_decoded(rows: Path) -> None:
    ended = threading.Event()
    ended.set()
    rows.write_bytes(b'{"question": "q", "draw": 0, "rubbish": true}\n' + rows.read_bytes())
    found = follow_rows(rows, Generation, ended, lambda key: key[0] == "a")
    assert [one.draw for one in found if one is not None] == [1, 0]


def test_nothing_is_appended_to_a_torn_row(rows: Path) -> None:
    """The disk is full in the middle of a row, and has room again for the next."""
    with RowFile(rows) as file:
        with full_at(rows.stat().st_size + 900), pytest.raises(OSError, match="too large"):
            file.append([response("c", draw) for draw in range(9)])
        with pytest.raises(OSError, match="too large"):
            file.append([response("d", 0)])
    kept = scanned(rows)
    assert kept == [*KEYS, *(("c", draw) for draw in range(len(kept) - 4))]
    assert 4 < len(kept) < 13
    written(rows, [("c", draw) for draw in range(9) if ("c", draw) not in keys_of(rows)])
    assert scanned(rows) == [*KEYS, *(("c", draw) for draw in range(9))]


def test_no_place_is_skipped_where_places_could_not_be_written(tmp_path: Path) -> None:
    """The disk had room for the row. (Blanks make the file of places the longer one.)"""
    rows = written(tmp_path / "generations.jsonl", [("a", 0)])
    told = places.file_of(rows)
    with RowFile(rows) as file:
        with told.open("ab") as padded:
            padded.write(b" " * 100_000)
        with full_at(100_010), pytest.raises(OSError, match="too large"):
            file.append([response("b", 0)])
        with pytest.raises(OSError, match="too large"):
            file.append([response("c", 0)])
    assert keys_of(rows) == {("a", 0), ("b", 0)} == set(scanned(rows))
    assert count_rows(rows) == 2


def test_bytes_that_are_no_text_are_told_with_their_line(rows: Path) -> None:
    places.file_of(rows).unlink()
    rows.write_bytes(rows.read_bytes() + b'{"question": "\xff", "draw": 0}\n')
    for read in (
        keys_of,
        lambda path: list(read_rows(path, Key)),
        lambda path: list(read_in_order(path, Key)),
    ):
        with pytest.raises(DataError, match="line 5"):
            read(rows)


@pytest.mark.parametrize(
    "damage",
    [
        b'["\xff",0,9]\n',
        b'["b",0,-9]\n["a",1,-5]\n',
        b'["b",0,-9]\n["a",1,200]\n',
        b'["b",0,99999999999999999999999]\n',
        b"[" * 100_000 + b"\n",
        b"\x00" * 50 + b"\n",
    ],
)
def test_damaged_places_are_no_places(rows: Path, damage: bytes) -> None:
    told = places.file_of(rows).read_bytes()
    for content in (damage, told + damage, damage + told):
        places.file_of(rows).write_bytes(content)
        assert keys_of(rows) == set(KEYS)
        assert count_rows(rows) == 4


def test_places_that_cannot_be_read_are_no_places(rows: Path) -> None:
    places.file_of(rows).unlink()
    places.file_of(rows).mkdir()
    assert keys_of(rows) == set(KEYS)


def test_rows_that_were_put_in_another_order_are_found(rows: Path) -> None:
    """The last one stands where it stood, so that the places seem to fit."""
    lines = rows.read_bytes().splitlines(keepends=True)
    rows.write_bytes(b"".join([lines[2], lines[1], lines[0], lines[3]]))
    assert len(lines[0]) != len(lines[2])
    assert [(one.question, one.draw) for one in read_in_order(rows, Generation)] == sorted(KEYS)
    assert scanned(rows) == [
        (one.question, one.draw) for one in read_wanted(rows, Generation, KEYS.__contains__)
    ]


def test_rows_of_one_length_that_changed_places_are_not_taken_for_each_other(tmp_path: Path) -> None:
    keys = [("a", 0), ("b", 0), ("c", 0)]
    rows = written(tmp_path / "generations.jsonl", keys)
    lines = rows.read_bytes().splitlines(keepends=True)
    rows.write_bytes(b"".join([lines[1], lines[0], lines[2]]))
    [found] = read_wanted(rows, Generation, {("b", 0)}.__contains__)
    assert found.text == "b\u20280"
    assert [one.text for one in read_in_order(rows, Generation)] == ["a\u20280", "b\u20280", "c\u20280"]
