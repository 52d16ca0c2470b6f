"""A fuzzing process: `python -m tests.fuzz.child TARGET FOLDER BOMBS [libFuzzer's flags]`.

Its corpus is FOLDER/corpus, with the committed one as seeds. It ends when the flags say so, or is killed by
an input that takes too long. Only our own packages are instrumented.
"""

import importlib
import sys
from pathlib import Path

import atheris

from tests.fuzz.bombs import bombs
from tests.fuzz.watch import LARGEST, Watch, confine

OURS = ["harness", "benchmarks", "pipeline", "reports"]
SEEDS = Path(__file__).parent / "corpus"


def main() -> None:
    name, folder, most = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    with atheris.instrument_imports(include=OURS):
        target = importlib.import_module(f"tests.fuzz.targets.{name}")
    confine()
    watch = Watch(target.read, target.REFUSALS, folder)
    grown = folder / "corpus"
    grown.mkdir(exist_ok=True)
    words = folder / "words"
    words.write_text("".join(f'"{escaped(word)}"\n' for word in target.WORDS), encoding="ascii")
    limits = [f"-max_len={LARGEST}", "-timeout=600", "-rss_limit_mb=0", f"-artifact_prefix={folder}/"]
    atheris.Setup(
        [sys.argv[0], f"-dict={words}", *limits, *sys.argv[4:], str(grown), str(SEEDS / name)], watch
    )
    for seed in sorted((SEEDS / name).iterdir()):
        watch(seed.read_bytes())
    watch.forget_maxima()
    for bomb in bombs(target.WORDS, most):
        watch(bomb)
    atheris.Fuzz()


def escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    main()
