"""Where the software comes from: licences, vulnerabilities, workflows, pins."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.supply.audit import judged
from tests.supply.licences import ALLOWED, HARNESS, licences, needed

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
VULNERABLE = {"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
SOUND = {"name": "b", "version": "1", "vulns": []}
SKIPPED = {"name": "c", "skip_reason": "Dependency not found on PyPI and could not be audited: c (1)"}
OURS = {"name": "dasd-harness", "skip_reason": "Dependency not found on PyPI and could not be audited"}


def test_every_package_that_the_core_needs_has_an_allowed_licence() -> None:
    found = {name: licences(package) for name, package in needed(HARNESS).items()}
    assert len(found) > 30
    assert {name: told for name, told in found.items() if not told or not set(told) <= ALLOWED} == {}


def test_a_package_of_an_extra_is_looked_at_only_with_the_extra() -> None:
    assert "pytest" not in needed(HARNESS)
    assert "pytest" in needed(HARNESS, frozenset({"test"}))


@pytest.mark.parametrize(
    ("packages", "code"),
    [
        ([SOUND], 0), ([SOUND, OURS], 0), ([SOUND, VULNERABLE], 1),
        ([SOUND, SKIPPED], 2), ([SKIPPED], 2), ([], 2), ([OURS], 2),
    ],
)  # fmt: skip
def test_an_audit_that_looked_nothing_up_does_not_pass(packages: list[dict[str, Any]], code: int) -> None:
    assert judged({"dependencies": packages})[0] == code


def test_an_audit_without_a_document_does_not_pass_in_silence(tmp_path: Path) -> None:
    """As pip-audit does it: nothing found, exit code 0."""
    for said, code in ((json.dumps({"dependencies": [SKIPPED]}), 2), ("", 2)):
        fake = tmp_path / "pip-audit"
        fake.write_text(f"#!/bin/sh\necho 'No known vulnerabilities found' >&2\necho '{said}'\n")
        fake.chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-m", "tests.supply.audit", str(fake)],
            cwd=ROOT,
            capture_output=True,
            check=False,
        )
        assert done.returncode == code


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_uses_the_forges_and_dockers_own_actions_by_version_and_may_only_read(file: Path) -> None:
    """docs/security.md says so, and why they are no commits."""
    text = file.read_text()
    for action in re.findall(r"uses:\s*(\S+)", text):
        assert re.fullmatch(r"(actions|docker)/[\w/-]+@(v\d+(\.\d+)*|[0-9a-f]{40})", action), action
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}


def test_the_workflow_fails_where_nothing_was_looked_up() -> None:
    steps = yaml.safe_load((ROOT / ".github" / "workflows" / "audit.yml").read_text())["jobs"]["audit"][
        "steps"
    ]
    [audit] = [step["run"] for step in steps if "pip-audit" in step.get("run", "")]
    assert "python -m tests.supply.audit pip-audit" in audit
    assert "||" not in audit
    assert not any("continue-on-error" in step for step in steps)
