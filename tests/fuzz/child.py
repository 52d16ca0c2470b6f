"""A fuzzing process: `python -m tests.fuzz.child MODULE FOLDER BOMBS SECONDS [libFuzzer's flags]`.

The module's `read` is given its committed seeds, the bombs for SECONDS at the most, and what atheris makes of
the seeds until the flags say that it is enough. FOLDER takes what is found, and the corpus as it grows. An
input that takes too long kills the process. Only our own packages are instrumented.
"""

import importlib
import sys
import time
from pathlib import Path

import atheris

from tests.fuzz.bombs import bombs
from tests.fuzz.campaign import SEEDS
from tests.fuzz.watch import LARGEST, Watch, confine

OURS = ["harness", "benchmarks", "pipeline", "reports"]


def main() -> None:
    module, folder = sys.argv[1], Path(sys.argv[2])
    most, ends = int(sys.argv[3]), time.monotonic() + float(sys.argv[4])
    with atheris.instrument_imports(include=OURS):
        target = importlib.import_module(module)
    confine()
    watch = Watch(target.read, target.REFUSALS, folder)
    seeds, grown, words = SEEDS / module.rpartition(".")[2], folder / "corpus", folder / "words"
    grown.mkdir(exist_ok=True)
    words.write_text("".join(f'"{escaped(word)}"\n' for word in target.WORDS), encoding="ascii")
    limits = [f"-max_len={LARGEST}", "-timeout=600", "-rss_limit_mb=0", f"-artifact_prefix={folder}/"]
    flags = [f"-dict={words}", *limits, *sys.argv[5:], str(grown)]
    atheris.Setup([sys.argv[0], *flags, *([str(seeds)] if seeds.is_dir() else [])], watch)
    watch.warm_up(seed.read_bytes() for seed in sorted(seeds.glob("*")))
    made = list(bombs(target.WORDS, most))
    while time.monotonic() < ends and (number := watch.next_bomb()) < len(made):
        watch(made[number])
    atheris.Fuzz()


def escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    main()
