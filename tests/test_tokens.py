"""Token files: what is written comes back, and a torn end costs only what was torn."""

import os
from pathlib import Path

import numpy as np
import pytest

from harness.errors import DataError
from harness.tokens import NAME, TokenFile, TokenIndex, Tokens, tokens


def sample(seed: int, length: int = 50) -> Tokens:
    rng = np.random.default_rng(seed)
    return tokens(rng.integers(0, 150_000, length), -rng.exponential(size=length), rng.integers(0, 9, length))


def same(one: Tokens, other: Tokens) -> bool:
    pairs = ((one.ids, other.ids), (one.logprobs, other.logprobs), (one.lengths, other.lengths))
    return all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in pairs)


def filled(path: Path, count: int) -> None:
    with TokenFile(path) as file:
        for draw in range(len(file.keys), count):
            file.append(("q", draw), sample(draw))


def test_rows_come_back_bit_for_bit_in_any_order(tmp_path: Path) -> None:
    filled(tmp_path / NAME, 5)
    index = TokenIndex(tmp_path / NAME)
    assert list(index) == [("q", draw) for draw in range(5)]
    assert all(same(index["q", draw], sample(draw)) for draw in (3, 0, 4, 1, 2))


def test_a_file_cut_at_any_byte_keeps_its_whole_rows_and_can_be_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / NAME
    filled(path, 3)
    whole = path.read_bytes()
    for cut in range(0, len(whole), 37):
        path.write_bytes(whole[:cut])
        filled(path, 3)
        assert path.read_bytes() == whole, f"cut at {cut} of {len(whole)}"


def test_of_two_rows_with_one_key_the_later_counts(tmp_path: Path) -> None:
    filled(tmp_path / NAME, 2)
    with TokenFile(tmp_path / NAME) as file:
        assert file.keys == {("q", 0), ("q", 1)}
        file.append(("q", 0), sample(7))
    index = TokenIndex(tmp_path / NAME)
    assert same(index["q", 0], sample(7))
    assert len(index) == 2


def test_tokens_without_ids_are_kept_too(tmp_path: Path) -> None:
    with TokenFile(tmp_path / NAME) as file:
        file.append(("q", 0), tokens([], [-1.0, -2.0], [3, 0]))
        file.append(("empty", 0), tokens([], [], []))
    index = TokenIndex(tmp_path / NAME)
    assert index["q", 0].logprobs.tolist() == [-1.0, -2.0]
    assert len(index["q", 0].ids) == 0
    assert len(index["empty", 0].logprobs) == 0


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="2 logprobs, 1 lengths"):
        tokens([], [-1.0, -2.0], [3])


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"no arrow stream at all, but long enough" * 20)
    with pytest.raises(DataError, match="is no token file"):
        TokenIndex(tmp_path / NAME)
    with pytest.raises(DataError, match="is no token file"), TokenFile(tmp_path / NAME):
        pass


def test_a_token_costs_a_few_bytes(tmp_path: Path) -> None:
    with TokenFile(tmp_path / NAME) as file:
        file.append(("q", 0), sample(0, 10_000))
    assert os.path.getsize(tmp_path / NAME) < 9 * 10_000
