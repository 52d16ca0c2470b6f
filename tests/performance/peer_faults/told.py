"""The page's table of how tools ended under faults, made from the file of results."""

import json
from pathlib import Path
from typing import Any

from tests.performance.client.served import ROOT
from tests.performance.peer_faults.faults import FAULTS
from tests.performance.peer_faults.tools import TOOLS
from tests.performance.peer_faults.trial import Outcome, read_outcome

FILE = ROOT / "docs" / "reliability" / "peers.json"


def read_results(file: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads(file.read_bytes())
    return results


def table(results: dict[str, Any]) -> str:
    """Markdown: a line a fault, a column a tool."""
    tools = [name for name in TOOLS if name in results["tools"]]
    rows = [f"| | {' | '.join(tools)} |", "|---" * (len(tools) + 1) + "|"]
    for fault in FAULTS.values():
        cells = [cell(results, tool, fault.name) for tool in tools]
        rows.append(f"| {fault.title} | {' | '.join(cells)} |")
    return "\n".join(rows)


def cell(results: dict[str, Any], tool: str, fault: str) -> str:
    raw = results["outcomes"].get(tool, {}).get(fault)
    return told(read_outcome(raw)) if raw else "not run"


def told(outcome: Outcome) -> str:
    """What came of one trial, in the words of the page."""
    last = outcome.runs[-1]
    again = "" if len(outcome.runs) == 1 else " when run again"
    match outcome.ending:
        case "right":
            return "right" + (f", {last.again} asked twice" if last.again else "")
        case "goes on":
            return f"stops, goes on, {last.again} asked twice"
        case "begins anew":
            return f"stops, begins anew, {last.again} asked twice"
        case "wrong, told":
            return f"**{last.score:.1f}{again}**, told"
        case "wrong, untold":
            return f"**{last.score:.1f}{again}**, not told"
        case "hangs":
            return "hangs"
        case "stops for good":
            return "stops, and again"


def versions(results: dict[str, Any]) -> str:
    """Markdown: what was run, and how it was set."""
    tools = [results["tools"][name] for name in TOOLS if name in results["tools"]]
    rows = [f"| {tool['version']} | {tool['date']} | {tool['options']} |" for tool in tools]
    return "\n".join(["| tool | measured | set |", "|---|---|---|", *rows])
