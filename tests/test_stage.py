"""Identity: what changes a key and what must not."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from harness.stage import Stage, ordered
from harness.types import Sampling


@dataclass(frozen=True, kw_only=True)
class Source(Stage):
    seed: int = 0


COLD = Sampling(temperature=0.6, max_tokens=8)


@dataclass(frozen=True, kw_only=True)
class Step(Stage):
    data: Stage
    sampling: Sampling = COLD
    more: tuple[Stage, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Bumped(Stage):
    version: ClassVar[int] = 2
    seed: int = 0


def test_equal_fields_give_equal_keys_and_the_kind_leads() -> None:
    assert Source(seed=1).key == Source(seed=1).key
    assert Source().key.startswith("source-")
    assert len(Source().key) == len("source-") + 8


def test_a_field_deep_in_the_inputs_changes_every_key_after_it() -> None:
    first, second = Step(data=Step(data=Source(seed=1))), Step(data=Step(data=Source(seed=2)))
    assert first.key != second.key


def test_a_nested_setting_changes_the_key() -> None:
    warm = Step(data=Source(), sampling=Sampling(temperature=1.0, max_tokens=8))
    assert warm.key != Step(data=Source()).key


def test_a_version_bump_changes_the_key_of_equal_fields() -> None:
    class Bumped1(Bumped):
        version: ClassVar[int] = 1

    Bumped1.__name__ = "Bumped"
    assert Bumped1().identity["version"] == 1
    assert Bumped1().key != Bumped().key


def test_a_union_of_types_that_json_cannot_hold_is_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Odd(Stage):
        value: object

    with pytest.raises(TypeError, match="cannot be part of a stage's identity"):
        _ = Odd(value=object()).key


def test_inputs_are_found_inside_tuples_once_each() -> None:
    source = Source()
    step = Step(data=source, more=(source, Source(seed=3)))
    assert step.inputs == [source, Source(seed=3)]


def test_order_puts_inputs_first_and_each_stage_once() -> None:
    source = Source()
    left, right = Step(data=source), Step(data=source, sampling=Sampling(temperature=1.0, max_tokens=8))
    assert ordered([left, right]) == [source, left, right]
