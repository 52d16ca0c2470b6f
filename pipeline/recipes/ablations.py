"""The report's small ablations (Tables 1 to 5), each one command: `harness reproduce dasd-ablation-das`.

They share stages with one another: rows of equal settings are built once. Every row is one training of
the student from its base, but for cold starts (T 1.0 after T 0.6) and mixed policy (after its baseline).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from harness.benchmark import Benchmark
from harness.recipe import Recipe, Row
from harness.stage import Stage
from pipeline import paper
from pipeline.assumed import ASSUMED
from pipeline.paper import HIGH, LOW, Effort, Rows, Scale
from pipeline.sft import Sft

Method = Literal["das", "random"]

MATH_50K: Rows = (("math", 50_000),)
MATH_100K: Rows = (("math", 100_000),)
MATH_25K: Rows = (("math", 25_000),)
THREE_DOMAINS: Rows = (("math", 25_000), ("code", 10_000), ("science", 10_000))
DOUBLED: Rows = tuple((domain, 2 * count) for domain, count in THREE_DOMAINS)


@dataclass(kw_only=True)
class Workshop:
    """Makes rows of a table out of shared stages, and remembers the stages in the order made.

    `low` and `high` are the most rows that any row of the table takes at each temperature: so many are
    sampled, once.
    """

    scale: Scale
    engine: str
    low: Rows
    high: Rows
    effort: Effort = paper.EFFORT

    def __post_init__(self) -> None:
        self.stages: dict[str, Stage] = {"questions": paper.questions(self.scale)}
        self.rows: dict[str, Sft] = {}

    def data(self, name: str, temperature: float, rows: Rows, method: Method) -> Stage:
        """`rows` responses at a temperature, selected by a method; one of each question."""
        level, most = ("low", self.low) if temperature == LOW else ("high", self.high)
        sampled = paper.sampled(
            self.scale, self.stages["questions"], self.engine, temperature, asked_for(most), self.effort
        )
        kept = paper.kept(self.scale, sampled)
        self.stages |= {f"sampled-{level}": sampled, f"filtered-{level}": kept}
        selected = (
            paper.divergent(self.scale, kept, sampled, rows)
            if method == "das"
            else paper.at_random(kept, rows)
        )
        self.stages[f"selected-{name}"] = selected
        return selected

    def row(
        self, name: str, temperature: float, rows: Rows, method: Method = "random", base: Stage | None = None
    ) -> Sft:
        """One row of the table: the student trained on such data."""
        data = self.data(name, temperature, rows, method)
        return self.add(name, paper.trained(self.scale, base or self.scale.student, data))

    def add(self, name: str, trained: Sft) -> Sft:
        self.stages[name] = trained
        self.rows[name] = trained
        return trained


def asked_for(rows: Rows) -> Rows:
    """Questions to ask for so many rows, as many more as in math's stage 2 (105K for 103.3K)."""
    return tuple((domain, -(-count * 105_000 // 103_300)) for domain, count in rows)


def das(shop: Workshop) -> None:
    """Table 3."""
    for name, temperature in (("low", LOW), ("high", HIGH)):
        shop.row(f"{name}-random", temperature, MATH_50K, "random")
        shop.row(f"{name}-das", temperature, MATH_50K, "das")
    shop.row("high-random-100k", HIGH, MATH_100K, "random")


def temperature(shop: Workshop) -> None:
    """Table 1: one temperature against the schedule."""
    low = shop.row("low", LOW, MATH_50K)
    shop.row("high", HIGH, MATH_50K)
    shop.row("high-100k", HIGH, MATH_100K)
    shop.row("cold-start", HIGH, MATH_50K, base=low)


def domains(shop: Workshop) -> None:
    """Tables 2 and 4: math, code and science."""
    low = shop.row("low-random", LOW, THREE_DOMAINS, "random")
    shop.row("low-das", LOW, THREE_DOMAINS, "das")
    shop.row("high-random", HIGH, THREE_DOMAINS, "random")
    shop.row("high-random-doubled", HIGH, DOUBLED, "random")
    shop.row("cold-start", HIGH, THREE_DOMAINS, "random", base=low)


def teacher(shop: Workshop) -> None:
    """Tables 1 and 3 with another teacher."""
    low = shop.row("low-random", LOW, MATH_25K, "random")
    shop.row("low-das", LOW, MATH_25K, "das")
    shop.row("high-random", HIGH, MATH_25K, "random")
    shop.row("cold-start", HIGH, MATH_25K, "random", base=low)


def mixed_policy(shop: Workshop) -> None:
    """Table 5: the student's own beginnings learned, or masked.

    LLaMA-Factory cannot mask a part of a response, so that row is TRL's, which trains in float32 on one
    device: at the paper's size no GPU of today holds it, and nobody has run it.
    """
    baseline = shop.row("baseline", LOW, MATH_50K, "das")
    scale = replace(shop.scale, drafts=min(shop.scale.drafts, paper.ABLATION_DRAFTS))
    mixed = paper.mixed_policy(scale, baseline, shop.stages["selected-baseline"], shop.engine, shop.effort)
    shop.stages |= mixed.labelled()
    unmasked = paper.trained(shop.scale, baseline, mixed.mix, epochs=1)
    shop.add("unmasked", unmasked)
    shop.add("masked", replace(unmasked, trainer="trl", mask_student=True))


def ablation(
    entry: str = "questions",
    engine: str = "vllm",
    *,
    name: str,
    summary: str,
    table: Callable[[Workshop], None],
    low: Rows,
    high: Rows = (),
    scale: Scale = paper.PAPER,
    benchmarks: tuple[Benchmark, ...],
    effort: Effort = paper.EFFORT,
) -> Recipe:
    """One table as a recipe."""
    shop = Workshop(scale=scale, engine=engine, low=low, high=high, effort=effort)
    table(shop)
    return Recipe(
        name=name,
        summary=summary,
        stages=shop.stages,
        models={
            "base": Row(model=scale.student),
            **{row: Row(model=model, system=paper.SYSTEM) for row, model in shop.rows.items()},
        },
        benchmarks=benchmarks,
        engine=engine,
        assumed=ASSUMED,
        make=partial(
            ablation,
            name=name,
            summary=summary,
            table=table,
            low=low,
            high=high,
            scale=scale,
            benchmarks=benchmarks,
            effort=effort,
        ),
        published="dasd_4b",
        claimed=name,
        limit=scale.limit,
    )


THREE_BENCHMARKS = paper.BENCHMARKS_30B  # Tables 2, 4 and 8 have the same

das_recipe = ablation(
    name="dasd-ablation-das",
    summary="Divergence-aware against random selection (Table 3)",
    table=das,
    low=MATH_50K,
    high=MATH_100K,
    benchmarks=paper.AIME,
)
temperature_recipe = ablation(
    name="dasd-ablation-temperature",
    summary="One temperature against the schedule (Table 1)",
    table=temperature,
    low=MATH_50K,
    high=MATH_100K,
    benchmarks=paper.AIME,
)
domains_recipe = ablation(
    name="dasd-ablation-domains",
    summary="Schedule and selection with math, code and science (Tables 2 and 4)",
    table=domains,
    low=THREE_DOMAINS,
    high=DOUBLED,
    benchmarks=THREE_BENCHMARKS,
)
teacher_recipe = ablation(
    name="dasd-ablation-teacher",
    summary="Schedule and selection with Qwen3-Next-80B-A3B-Thinking as teacher (Tables 1 and 3)",
    table=teacher,
    low=MATH_25K,
    high=MATH_25K,
    scale=replace(paper.PAPER, teacher=paper.OTHER_TEACHER),
    benchmarks=paper.AIME,
    effort="",
)
mixed_policy_recipe = ablation(
    name="dasd-ablation-mixed-policy",
    summary="Mixed policy, the student's part masked and not (Table 5)",
    table=mixed_policy,
    low=MATH_50K,
    benchmarks=paper.AIME,
)
