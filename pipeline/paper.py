"""What the DASD report says and its companions publish, as values; where they are silent, our choice.

arXiv 2601.09088 v1, by section; "YAML" is train/stage1.yaml of D2I-ai/dasd-thinking at f951829. A choice
of ours says so, and stands in the ambiguity register (reports/dasd_4b/ambiguities.toml). No hub could be
reached from where this was written, so revisions are resolved at first download (`harness data pin`).
"""

from dataclasses import dataclass
from typing import Literal

from benchmarks.aime import aime24, aime25
from benchmarks.gpqa import gpqa_diamond
from benchmarks.livecodebench import lcb_all, lcb_v5, lcb_v6
from harness.benchmark import Benchmark
from harness.discover import find_engine
from harness.hub import UNPINNED, Checkpoint
from harness.stage import Stage
from harness.types import Sampling
from pipeline.collect import Collect
from pipeline.contamination import Overlap
from pipeline.draft import Draft
from pipeline.duplicates import Near
from pipeline.filter import Filter, Thresholds
from pipeline.mix import Mix
from pipeline.revise import Revise
from pipeline.sample import Sample
from pipeline.score import Score
from pipeline.select import Select
from pipeline.sft import Sft
from pipeline.sources import SOURCES, Source

Rows = tuple[tuple[str, int], ...]
Effort = Literal["", "low", "medium", "high"]

SYSTEM = "You are a helpful assistant."  # README: used in all training stages, and to be used at inference

TEACHER = Checkpoint(source="openai/gpt-oss-120b", revision=UNPINNED)  # §6.2
STUDENT = Checkpoint(
    source="Qwen/Qwen3-4B-Instruct-2507", revision=UNPINNED
)  # report; the YAML: …-Thinking-2507
STUDENT_30B = Checkpoint(source="Qwen/Qwen3-30B-A3B-Instruct-2507", revision=UNPINNED)
OTHER_TEACHER = Checkpoint(source="Qwen/Qwen3-Next-80B-A3B-Thinking", revision=UNPINNED)  # Tables 1 and 3
RELEASED = Checkpoint(source="Alibaba-Apsara/DASD-4B-Thinking", revision=UNPINNED)
RELEASED_30B = Checkpoint(source="Alibaba-Apsara/DASD-30B-A3B-Thinking-Preview", revision=UNPINNED)

BENCHMARKS: tuple[Benchmark, ...] = (aime24, aime25, lcb_v5, lcb_v6, gpqa_diamond)  # §7.3, Table 6
BENCHMARKS_30B: tuple[Benchmark, ...] = (aime25, lcb_v6, gpqa_diamond)  # Table 8
AIME: tuple[Benchmark, ...] = (aime24, aime25)  # Tables 1, 3 and 5
EVERY_BENCHMARK: tuple[Benchmark, ...] = (aime24, aime25, lcb_all, gpqa_diamond)  # to be kept out of training

LOW, HIGH = 0.6, 1.0  # §6.2
EFFORT: Effort = "high"  # ours
DATE = "2025-08-05"  # ours: the day that the teacher's prompt tells, gpt-oss's release
DRAWS = 8  # §6.2 "several"; ours: code needs 3.2 of each question and must have a choice
KEEP_IN: Rows = (("code", 4),)  # ours: 91.3K rows from 28,319 questions; elsewhere one of each question

# §6.1, rows by domain
STAGE1_ROWS: Rows = (
    ("math", 45_400),
    ("code", 20_100),
    ("science", 19_800),
    ("instruction_following", 19_600),
)
STAGE2_ROWS: Rows = (
    ("math", 103_300),
    ("code", 91_300),
    ("science", 65_200),
    ("instruction_following", 70_000),
)
# Questions that are asked for stage 1. Ours: as many to a row as in math's stage 2, 105K for 103.3K.
STAGE1_QUESTIONS: Rows = (
    ("math", 46_200),
    ("code", 20_500),
    ("science", 20_200),
    ("instruction_following", 20_000),
)

# §6.3 names the filters; the numbers are ours, but for the training context (YAML: cutoff_len)
THRESHOLDS = Thresholds(max_tokens=65_536)

DRAFTS = 50_000  # §6.4.2; it keeps 12.7K
ABLATION_DRAFTS = 30_300  # ours: for §5's 7.7K rows, in proportion
CAP = 1.5  # §6.4.2: × the teacher's tokens
OFF_POLICY_ROWS = 20_000  # §5, of the ablation; the final run's mix is unpublished
MINIMUM_MIXED = 5_000  # ours; the report kept 12.7K


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Which models, data and benchmarks, and how much of everything: all that another run of the same
    recipe may change. Stages, their order and their settings stay.

    `cutoff` and the `…_tokens` are tokens; `limit` asks only so many questions of each benchmark, which
    is then no score.
    """

    teacher: Checkpoint = TEACHER
    student: Checkpoint = STUDENT
    released: Checkpoint = RELEASED
    sources: tuple[Source, ...] = SOURCES
    benchmarks: tuple[Benchmark, ...] = BENCHMARKS
    decontaminate: tuple[Benchmark, ...] = EVERY_BENCHMARK
    thresholds: Thresholds = THRESHOLDS
    draws: int = DRAWS
    stage1_questions: Rows = STAGE1_QUESTIONS
    stage1_rows: Rows = STAGE1_ROWS
    stage2_rows: Rows = STAGE2_ROWS
    cutoff: int = 65_536  # YAML
    response_tokens: int = 65_536  # ours: a longer response does not fit into the cutoff
    draft_tokens: int = 98_304  # CAP × response_tokens
    epochs: int = 6  # YAML
    drafts: int = DRAFTS
    off_policy_rows: int = OFF_POLICY_ROWS
    minimum_mixed: int = MINIMUM_MIXED
    limit: int | None = None


PAPER = Scale()


def questions(scale: Scale) -> Collect:
    """§6.1: four domains, without what the benchmarks ask."""
    return Collect(sources=scale.sources, decontaminate=scale.decontaminate, overlap=Overlap(), near=Near())


def sampled(
    scale: Scale, asked: Stage, engine: str, temperature: float, counts: Rows = (), effort: Effort = EFFORT
) -> Sample:
    """§6.2: several responses of the teacher to each question, with their log-probabilities."""
    return Sample(
        questions=asked,
        teacher=scale.teacher,
        engine=engine,
        sampling=Sampling(temperature=temperature, max_tokens=scale.response_tokens, draws=scale.draws),
        per_domain=counts,
        effort=effort,
        date=DATE if effort else "",
    )


def kept(scale: Scale, responses: Stage) -> Filter:
    """§6.3."""
    return Filter(responses=responses, student=scale.student, thresholds=scale.thresholds, system=SYSTEM)


def divergent(scale: Scale, responses: Filter, sampled: Sample, budget: Rows) -> Select:
    """§4: the responses richest in Teacher Sentences. The teacher's side is what sampling kept, or what vLLM
    says of the prompt where the engine gives no log-probabilities (transformers cannot hold gpt-oss)."""
    scored = Score(
        responses=responses,
        model=scale.teacher,
        through="vllm",
        effort=sampled.effort,
        date=sampled.date,
    )
    return Select(
        responses=responses,
        teacher=sampled if find_engine(sampled.engine).logprobs else scored,
        student=Score(responses=responses, model=scale.student, system=SYSTEM),
        keep_in=KEEP_IN,
        budget=budget,
    )


def at_random(responses: Filter, budget: Rows) -> Select:
    """§4's baseline: as many responses to the same questions, drawn blindly."""
    return Select(responses=responses, method="random", keep_in=KEEP_IN, budget=budget)


def trained(scale: Scale, base: Stage, data: Stage, epochs: int | None = None) -> Sft:
    """§6.4.1 and the YAML: LLaMA-Factory with FlashAttention, which keeps packed rows apart."""
    return Sft(
        base=base,
        data=data,
        trainer="llamafactory",
        packing="isolated",
        epochs=scale.epochs if epochs is None else epochs,
        cutoff=scale.cutoff,
        system=SYSTEM,
    )


@dataclass(frozen=True, kw_only=True)
class MixedPolicy:
    """§5 and §6.4.2: the student begins, the teacher ends; the stages in their order."""

    drafts: Draft
    revised: Revise
    filtered: Filter
    mix: Mix

    def labelled(self) -> dict[str, Stage]:
        return {
            "drafts": self.drafts,
            "revised": self.revised,
            "filtered-mixed": self.filtered,
            "mixed-policy": self.mix,
        }


def mixed_policy(
    scale: Scale, student: Stage, data: Stage, engine: str, effort: Effort = EFFORT
) -> MixedPolicy:
    """The rows on which the student is trained last. `data` are the teacher's own responses."""
    drafts = Draft(
        student=student,
        data=data,
        engine=engine,
        sampling=Sampling(temperature=HIGH, max_tokens=scale.draft_tokens),
        questions=scale.drafts,
        cap=CAP,
        system=SYSTEM,
    )
    revised = Revise(
        drafts=drafts,
        teacher=scale.teacher,
        engine=engine,
        sampling=Sampling(temperature=HIGH, max_tokens=scale.response_tokens),
        effort=effort,
        date=DATE if effort else "",
    )
    filtered = kept(scale, revised)
    mix = Mix(
        mixed=filtered,
        off_policy=data,
        off_policy_rows=scale.off_policy_rows,
        minimum=scale.minimum_mixed,
    )
    return MixedPolicy(drafts=drafts, revised=revised, filtered=filtered, mix=mix)
