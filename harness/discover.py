"""Finds module-level values of a kind in a package, and says "did you mean" for unknown names."""

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.engines import Engine

T = TypeVar("T")


def discover(package: ModuleType, kind: type[T]) -> dict[str, T]:
    """All values of `kind` in the modules of `package`, by their `name`, in module order.

    Raises ValueError where two values share a name.
    """
    found: dict[str, T] = {}
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, kind):
                name: str = value.name  # type: ignore[attr-defined]
                if found.setdefault(name, value) is not value:
                    raise ValueError(f"two {kind.__name__} values are called {name!r}")
    return found


def pick(kind: str, name: str, known: dict[str, T]) -> T:
    """The value called `name`. Raises UsageError with the nearest names otherwise."""
    if name in known:
        return known[name]
    raise UsageError(f"unknown {kind} {name!r}. {suggestion(name, known)}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """`Did you mean 'x'?`, or the list of what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    if close:
        return "Did you mean " + " or ".join(repr(near) for near in close) + "?"
    return "Known: " + ", ".join(names)


def engines() -> "dict[str, Engine]":
    """The engines by name; one file each in `harness/engines`."""
    import harness.engines

    return discover(harness.engines, harness.engines.Engine)


def find_engine(name: str) -> "Engine":
    """The engine called `name`. Raises UsageError with the nearest names otherwise."""
    return pick("engine", name, engines())
