"""In CI a skipped test is a failure, except for a missing GPU."""

from collections.abc import Generator
from typing import Any

import pytest

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
