"""A fuzzing process: `python -m tests.fuzz.child MODULE FOLDER BOMBS [libFuzzer's flags]`.

The module's `read` is given its committed seeds, the bombs, and what atheris makes of the seeds; FOLDER takes
what is found, and the corpus as it grows. It ends when the flags say so, or is killed by an input that takes
too long. Only our own packages are instrumented.
"""

import importlib
import sys
from pathlib import Path

import atheris

from tests.fuzz.bombs import bombs
from tests.fuzz.campaign import SEEDS
from tests.fuzz.watch import LARGEST, Watch, confine

OURS = ["harness", "benchmarks", "pipeline", "reports"]


def main() -> None:
    module, folder, most = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    with atheris.instrument_imports(include=OURS):
        target = importlib.import_module(module)
    confine()
    watch = Watch(target.read, target.REFUSALS, folder)
    seeds, grown, words = SEEDS / module.rpartition(".")[2], folder / "corpus", folder / "words"
    grown.mkdir(exist_ok=True)
    words.write_text("".join(f'"{escaped(word)}"\n' for word in target.WORDS), encoding="ascii")
    limits = [f"-max_len={LARGEST}", "-timeout=600", "-rss_limit_mb=0", f"-artifact_prefix={folder}/"]
    flags = [f"-dict={words}", *limits, *sys.argv[4:], str(grown)]
    atheris.Setup([sys.argv[0], *flags, *([str(seeds)] if seeds.is_dir() else [])], watch)
    watch.warm_up(seed.read_bytes() for seed in sorted(seeds.glob("*")))
    made = list(bombs(target.WORDS, most))
    while (number := watch.next_bomb()) < len(made):
        watch(made[number])
    atheris.Fuzz()


def escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    main()
