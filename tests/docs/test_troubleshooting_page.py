"""Every message that docs/troubleshooting.md quotes is still one that the code says."""

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from tests.docs.follow import ROOT

PACKAGES = ("harness", "pipeline", "benchmarks", "reports")
QUOTED = re.compile(r"^\| `(.+?)` \|", re.MULTILINE)
VALUE = "\0"
"""Where the code puts a value into a message."""

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def text_of(node: ast.expr) -> str:
    """A string as it stands in the code, values left out; nothing for other expressions."""
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(text_of, parts))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return text_of(left) + text_of(right)
    return VALUE


@cache
def messages() -> tuple[str, ...]:
    """Every string of the four packages."""
    trees = (
        ast.parse(file.read_text(encoding="utf-8"))
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
    )
    kinds = (ast.Constant, ast.JoinedStr, ast.BinOp)
    return tuple(
        text_of(node)
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, kinds) and text_of(node).strip(VALUE)
    )


def fixed_parts(quoted: str) -> Iterator[str]:
    return (part for part in quoted.split("…") if part)


def is_said(quoted: str, among: tuple[str, ...]) -> bool:
    """Whether one message has all that is quoted, in this order, from its beginning on."""
    anything = rf"[^{VALUE}]*(?:{VALUE}[^{VALUE}]*)+"
    pattern = re.compile(anything.join(map(re.escape, quoted.split("…"))), re.DOTALL)
    parts = list(fixed_parts(quoted))
    likely = (message for message in among if all(part in message for part in parts))
    return any(pattern.match(message) for message in likely)


def test_enough_is_quoted_to_be_of_use() -> None:
    assert len(QUOTED.findall(PAGE)) >= 40


@pytest.mark.parametrize("quoted", QUOTED.findall(PAGE))
def test_a_quoted_message_is_one_that_the_code_says(quoted: str) -> None:
    assert max(map(len, fixed_parts(quoted))) >= 4, "nothing fixed to be found by"
    assert is_said(quoted, messages())


def test_a_message_that_nobody_says_is_noticed() -> None:
    said = (f"{VALUE} holds rows of another engine: {VALUE}",)
    assert is_said("… holds rows of another engine: …", said)
    assert not is_said("… holds rows of another server: …", said)
    assert not is_said("holds rows of another engine: …", said)
