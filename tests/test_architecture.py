"""Imports point one way: benchmarks → harness; pipeline → harness, benchmarks; reports → harness."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "harness": {"harness"},
    "benchmarks": {"harness", "benchmarks"},
    "pipeline": {"harness", "benchmarks", "pipeline"},
    "reports": {"harness", "reports"},
}
HEAVY = {"torch", "transformers", "trl", "vllm", "sglang", "datasets", "lighteval"}
ALL_PACKAGES = set(ALLOWED)


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[str]:
    """Top-level packages that a piece of code imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", ALLOWED)
def test_no_module_imports_against_the_flow(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(package)
        if path.parent != ROOT / "harness" / "cli"
        for name in imported(ast.parse(path.read_text()))
        if name in ALL_PACKAGES - ALLOWED[package]
    ]
    assert not wrong


def test_the_kernel_never_imports_a_heavy_library() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for package in ("harness", "benchmarks", "reports")
        for path in modules(package)
        for name in imported(ast.parse(path.read_text()))
        if name in HEAVY
    ]
    assert not wrong


def test_pipeline_stages_import_heavy_libraries_inside_functions_only() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name} at the top"
        for path in modules("pipeline")
        if path.name != "build.py"
        for node in ast.parse(path.read_text()).body
        if not is_type_checking(node)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in imported(node)
        if name in HEAVY
    ]
    assert not wrong


def is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"


def test_the_root_listing_is_the_architecture() -> None:
    packages = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    assert packages - {"tests"} == ALL_PACKAGES
