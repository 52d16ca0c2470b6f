"""In CI a skipped test is a failure, except for a missing GPU. What runs side by side with `-n`."""

from collections.abc import Generator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from harness.sandboxes import in_ci


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and in_ci() and not hasattr(report, "wasxfail"):
        reason: Any = report.longrepr
        text = str(reason[2] if isinstance(reason, tuple) else reason)
        if "GPU" not in text:
            report.outcome = "failed"
            report.longrepr = f"skipped in CI, where everything must run: {text}"
    return report


class ByFile(LoadFileScheduling):
    """A file's tests share servers and trainings, so one process runs them all. A real engine takes every
    core and much memory, so one process runs all files that start one."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "engines" if starts_engines(self.config.rootpath / file) else file


@cache
def starts_engines(file: Path) -> bool:
    return "mark.engine" in file.read_text(encoding="utf-8")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files with engines are first: they last longest."""
    items.sort(key=lambda item: not starts_engines(item.path))
