"""What `harness plan` takes for given about the paper's recipes until it is measured.

Published figures by section; "ours" is a guess and says on what. None of it is part of any identity.
"""

from dataclasses import replace

from harness.cost import Answers, Assumed, Assumptions, Size
from pipeline.paper import DRAFTS, HIGH, LOW, STAGE1_ROWS, STAGE2_ROWS

STAGE1_TOKENS = {  # §6.2: all of stage 1's rows together, in student tokens
    "math": 873.5e6,
    "code": 371.2e6,
    "science": 147.2e6,
    "instruction_following": 53.7e6,
}
SAME = "stage 1's (§6.2): none is published for temperature 1.0"

# attention: layers × query heads × head size
QWEN3_4B = Size(parameters=4.0e9, active=4.0e9, bytes=8.1e9, attention=36 * 32 * 128, source="")
QWEN3_30B_A3B = Size(parameters=30.5e9, active=3.3e9, bytes=61.1e9, attention=48 * 32 * 128, source="")

ASSUMED = Assumptions(
    prompt={
        "math": Assumed(value=110, source="ours: competition problems"),
        "code": Assumed(value=550, source="ours: statements with examples"),
        "science": Assumed(value=160, source="ours: a question and its options"),
        "instruction_following": Assumed(value=140, source="ours"),
    },
    response={
        (domain, temperature): Assumed(value=STAGE1_TOKENS[domain] / rows, source=source)
        for domain, rows in STAGE1_ROWS
        for temperature, source in ((LOW, "§6.2, of the rows that were kept"), (HIGH, SAME))
    },
    benchmarks={
        "aime24": Answers(questions=30, prompt=150, response=22_000, source="ours: like math's, but harder"),
        "aime25": Answers(questions=30, prompt=150, response=24_000, source="ours: like math's, but harder"),
        "lcb_v5": Answers(questions=166, prompt=650, response=22_000, source="ours: like code's"),
        "lcb_v6": Answers(questions=131, prompt=650, response=22_000, source="ours: like code's"),
        "gpqa_diamond": Answers(questions=198, prompt=300, response=10_000, source="ours: like science's"),
    },
    passing={
        "sample": Assumed(value=0.85, source="ours: the report publishes no rate"),
        "revise": Assumed(value=12.7 / 15, source="§6.4.2"),
    },
    truncated=Assumed(value=15_000 / DRAFTS, source="§6.4.2"),
    released={
        (part, domain): Assumed(value=count, source="§6.1")
        for part, rows in (("stage1", STAGE1_ROWS), ("stage2", STAGE2_ROWS))
        for domain, count in rows
    },
    models={
        "openai/gpt-oss-120b": Size(
            parameters=116.8e9,
            active=5.1e9,
            bytes=65.3e9,
            attention=18 * 64 * 64,  # every other of its 36 layers; the others see 128 tokens
            source="model card, arXiv 2508.10925 (MXFP4)",
        ),
        "Qwen/Qwen3-4B-Instruct-2507": replace(QWEN3_4B, source="model card (bf16)"),
        "Alibaba-Apsara/DASD-4B-Thinking": replace(QWEN3_4B, source="its base's"),
        "Qwen/Qwen3-30B-A3B-Instruct-2507": replace(QWEN3_30B_A3B, source="model card (bf16)"),
        "Alibaba-Apsara/DASD-30B-A3B-Thinking-Preview": replace(QWEN3_30B_A3B, source="its base's"),
        "Qwen/Qwen3-Next-80B-A3B-Thinking": Size(
            parameters=80e9,
            active=3e9,
            bytes=163e9,
            attention=12 * 16 * 256,  # every fourth of its 48 layers; the others are linear
            source="model card (bf16)",
        ),
    },
    downloads={
        "nvidia/AceReason-1.1-SFT": Assumed(value=60e9, source="ours: 3.97 million rows with responses"),
        "nvidia/OpenCodeReasoning": Assumed(value=12e9, source="ours: 735,255 rows with responses"),
        "nvidia/OpenScienceReasoning-2": Assumed(value=15.7e9, source="its file (pipeline/sources.py)"),
        "a-m-team/AM-DeepSeek-R1-Distilled-1.4M": Assumed(value=6e9, source="ours: compressed"),
        "BAAI/TACO": Assumed(value=4e9, source="ours: problems with tests and solutions"),
        "codeparrot/apps": Assumed(value=1.3e9, source="ours: problems with tests and solutions"),
        "Alibaba-Apsara/Superior-Reasoning-SFT-gpt-oss-120b-Logprob": Assumed(
            value=30e9, source="ours: 7 bytes a token and as much again"
        ),
        "Alibaba-Apsara/Superior-Reasoning-SFT-gpt-oss-120b": Assumed(
            value=19e9, source="4.6 GB for stage 1 (pipeline/released.py), stage 2 in proportion to its rows"
        ),
    },
)
