"""Stand-ins for what the paper's recipes download: small models and made-up rows in the real schemas.

    openai/gpt-oss-120b                         the micro teacher, taught to speak harmony
    Qwen/Qwen3-4B-Instruct-2507                 the micro base with room for real problems
    Alibaba-Apsara/DASD-4B-Thinking             the same
    Alibaba-Apsara/Superior-Reasoning-SFT-…     worked problems in the released columns

They stand in a data folder laid out like the Hub, where the recipes look first: no recipe is changed.
"""

import json
import os
import random
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline import paper
from pipeline.micro.textbook import Lesson, lesson
from pipeline.paper import Scale
from pipeline.recipes.dasd_micro import MODELS
from tests.benchmarks import gpqa_rows
from tests.pipeline import standins as hub

CONTEXT = 8192
SUBJECTS = {"math": 0.4, "science": 0.3, "code": 0.3}
STYLES = {"full": 0.6, "checked": 0.4}
DOMAINS = ("math", "code", "science", "instruction_following")

TINY = Scale(
    benchmarks=tuple(
        replace(one, sampling=replace(one.sampling, draws=1, max_tokens=64)) for one in paper.BENCHMARKS
    ),
    decontaminate=paper.AIME,
    thresholds=replace(paper.THRESHOLDS, max_tokens=512),
    draws=6,
    stage1_questions=(("math", 30), ("code", 10), ("science", 10), ("instruction_following", 10)),
    stage1_rows=(("math", 25), ("code", 8), ("science", 8), ("instruction_following", 8)),
    stage2_rows=(("math", 40), ("code", 20), ("science", 15), ("instruction_following", 15)),
    cutoff=512,
    response_tokens=256,
    draft_tokens=384,
    epochs=1,
    drafts=480,
    off_policy_rows=60,
    minimum_mixed=1,
    limit=2,
)
"""The recipe's counts, made small. Models, data sets and stages are the paper's by name."""


def lessons(seed: str) -> Iterator[Lesson]:
    """Different worked problems without end."""
    rng, seen = random.Random(seed), set[str]()
    while True:
        told = lesson(rng, STYLES, SUBJECTS)
        if told.question not in seen:
            seen.add(told.question)
            yield told


def students(data: Path) -> None:
    """The student and the released checkpoint: the micro base, whose context is made longer."""
    for source in (paper.STUDENT, paper.RELEASED):
        folder = data / source.source
        shutil.copytree(MODELS / "base", folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": CONTEXT}))


def released_rows(data: Path, count: int) -> None:
    """Both stages of the released set; in the second, some questions have several responses."""
    told = lessons("released")
    for part in ("stage1", "stage2"):
        rows = []
        for number in range(count):
            if number % 5 or part == "stage1":
                one = next(told)
            rows.append(
                {
                    "uuid": str(uuid.UUID(int=random.Random(f"{part}:{number}").getrandbits(128))),
                    "input": one.question,
                    "output": one.answer,
                    "domain": DOMAINS[number % 4],
                    "meta": {"source": "made up"},
                }
            )
        hub.released(data, part, rows)


def sources(data: Path, questions: list[str]) -> None:
    """The four sources of questions, a quarter for each."""
    math, code, science, instructions = (questions[part::4] for part in range(4))
    hub.acereason(data, math)
    hub.opencodereasoning(data, code)
    hub.opensciencereasoning(data, {question: 10 + n for n, question in enumerate(science)})
    hub.am_distilled(data, instructions)


def benchmarks(data: Path) -> None:
    """The real problems of HARNESS_DATA, and made-up rows for GPQA, whose text is nowhere."""
    for name in ("aime", "lcb"):
        (data / name).symlink_to(Path(os.environ["HARNESS_DATA"]) / name)
    gpqa_rows.write(data, gpqa_rows.made_up_rows())
