"""Known vulnerabilities of what is installed, by pip-audit; it fails where nobody could be asked.

    python -m tests.supply.audit [PIP_AUDIT…]

pip-audit itself exits 0 where it reached no source, or did not find a package there: it "skips" it. This
exits 1 for a vulnerability, 2 where a package was not looked up.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

OURS = ("dasd-harness",)
COMMAND = ("pip-audit", "--format", "json", "--progress-spinner", "off", "--skip-editable")


def judged(told: Mapping[str, Any]) -> tuple[int, list[str]]:
    """The exit code, and what to say, of pip-audit's document."""
    packages = [each for each in told.get("dependencies", []) if each["name"] not in OURS]
    skipped = [f"{each['name']}: {each['skip_reason']}" for each in packages if "skip_reason" in each]
    found = [
        f"{each['name']} {each['version']}: {one['id']}, fixed in {', '.join(one['fix_versions']) or 'none'}"
        for each in packages
        for one in each.get("vulns", [])
    ]
    looked_up = len(packages) - len(skipped)
    said = [f"{looked_up} packages looked up, {len(skipped)} not, {len(found)} vulnerabilities"]
    if not looked_up or skipped:
        return 2, [*said, *found, *skipped]
    return int(bool(found)), [*said, *found]


def main(command: list[str]) -> int:
    done = subprocess.run(command or COMMAND, stdout=subprocess.PIPE, check=False)
    try:
        told = json.loads(done.stdout)
    except ValueError:
        print(f"pip-audit ended with {done.returncode} and no JSON: nothing was looked up")
        return 2
    code, said = judged(told)
    print("\n".join(said))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
