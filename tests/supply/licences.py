"""The licences of the harness and of all that it needs, as a Markdown table; exits 1 for an unknown one.

    python -m tests.supply.licences [EXTRA…]

With names of extras (`train`) of theirs, too. What a package's metadata says is taken at its word: the SPDX
expression where it has one, else its classifiers, else its field `License`.
"""

import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HARNESS = "dasd-harness"
ALLOWED = {
    "0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "HPND",
    "ISC", "LGPL", "LLVM-exception", "MIT", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Unlicense", "Zlib",
}  # fmt: skip
"""LGPL and MPL are of libraries that are used as they are and not changed."""
SPELT = (
    (r"apache", "Apache-2.0"), (r"mpl|mozilla public", "MPL-2.0"), (r"lgpl|lesser general", "LGPL"),
    (r"\bgpl|general public", "GPL"), (r"mit-cmu|hpnd|historical permission", "HPND"), (r"\bmit\b", "MIT"),
    (r"bsd.?3|3.?clause", "BSD-3-Clause"), (r"bsd.?2|2.?clause", "BSD-2-Clause"), (r"bsd", "BSD"),
    (r"psf|python software foundation", "PSF-2.0"), (r"isc", "ISC"), (r"unlicense", "Unlicense"),
    (r"zlib", "Zlib"), (r"cc0", "CC0-1.0"),
)  # fmt: skip


def needed(name: str, extras: frozenset[str] = frozenset()) -> dict[str, Distribution]:
    """What is installed of a package's requirements, and of theirs, by name."""
    found: dict[str, Distribution] = {}
    waiting = [(canonicalize_name(name), extras)]
    seen = set()
    while waiting:
        each = waiting.pop()
        if each in seen:
            continue
        seen.add(each)
        try:
            found[each[0]] = distribution(each[0])
        except PackageNotFoundError:
            continue
        for text in found[each[0]].requires or ():
            required = Requirement(text)
            chosen = each[1] or {""}
            if required.marker is None or any(required.marker.evaluate({"extra": extra}) for extra in chosen):
                waiting.append((canonicalize_name(required.name), frozenset(required.extras)))
    return found


def licences(package: Distribution) -> list[str]:
    """Those that the metadata names; empty where it names none that is known by a name."""
    told = package.metadata
    if expression := told.get("License-Expression"):
        return sorted(set(re.split(r"\s+(?:AND|OR|WITH)\s+|[()]", expression)) - {""})
    texts = [each for each in told.get_all("Classifier") or () if each.startswith("License ::")]
    if not texts and (field := told.get("License")):
        texts = re.split(r"\s+AND\s+", field.splitlines()[0])
    known = (next((name for form, name in SPELT if re.search(form, text, re.I)), "") for text in texts)
    return sorted({name for name in known if name})


def main(extras: list[str]) -> int:
    unknown = []
    print("| package | version | licences |\n|---|---|---|")
    for name, package in sorted(needed(HARNESS, frozenset({"", *extras})).items()):
        found = licences(package)
        print(f"| {name} | {package.version} | {', '.join(found) or 'none named'} |")
        if not found or not set(found) <= ALLOWED:
            unknown.append(name)
    if unknown:
        print(f"\nnot among the allowed licences: {', '.join(unknown)}")
    return int(bool(unknown))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
