"""Local stand-ins of the hub's data sets: their layouts, formats and columns, other rows."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]


def write_jsonl(path: Path, rows: Iterable[Row]) -> Path:
    """JSON lines, compressed where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
    if path.suffix in (".zst", ".gz"):
        with pa.CompressedOutputStream(str(path), {".zst": "zstd", ".gz": "gzip"}[path.suffix]) as file:
            file.write(lines)
    else:
        path.write_bytes(lines)
    return path


def write_parquet(path: Path, rows: list[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_arrow(path: Path, rows: list[Row]) -> Path:
    """An Arrow stream, as `datasets.save_to_disk` writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    return path


def acereason(data: Path, questions: Iterable[str], shards: int = 2) -> Path:
    """nvidia/AceReason-1.1-SFT: two responses to each question, and rows of code."""
    folder = data / "nvidia" / "AceReason-1.1-SFT" / "sft_data.parquet"
    rows = [
        {"category": "math", "source": "NuminaMath-CoT", "input": text, "output": f"<think>{n}</think>{text}"}
        for text in questions
        for n in range(2)
    ]
    rows.append({"category": "code", "source": "TACO", "input": "Sort the list.", "output": "sorted(a)"})
    for shard in range(shards):
        write_arrow(folder / f"data-{shard:05}-of-{shards:05}.arrow", rows[shard::shards])
    return folder


def opencodereasoning(data: Path, questions: list[str], there: Sequence[str] = ()) -> Path:
    """nvidia/OpenCodeReasoning: split_0 has the questions, split_1 says where they are.

    Row 7 of TACO has the first of `questions`, the rows from 8 on have those of `there`.
    """
    folder = data / "nvidia" / "OpenCodeReasoning"
    common = {"output": "o", "source": "codeforces", "license": "l", "difficulty": "1", "solution": "s"}
    here = [
        {"id": f"a{n}", "input": q, "dataset": "c", "split": "train", **common}
        for n, q in enumerate(questions)
    ]
    named = [
        {"id": "b", "input": "-", "dataset": "taco", "split": "train", "index": str(index), **common}
        for index in (7, 7, 7, *range(8, 8 + len(there)))
    ]
    write_parquet(folder / "split_0" / "train-00000-of-00001.parquet", here)
    write_parquet(folder / "split_1" / "train-00000-of-00001.parquet", named)
    taco(data, [*(f"Nobody asks for problem {n}." for n in range(7)), questions[0], *there])
    return folder


def taco(data: Path, questions: Sequence[str], shards: int = 2) -> Path:
    """BAAI/TACO's training split, in the order of its files."""
    folder, size = data / "BAAI" / "TACO", -(-len(questions) // shards)
    for number in range(shards):
        rows = [{"question": each, "solutions": "[]"} for each in questions[number * size :][:size]]
        write_parquet(folder / "ALL" / f"train-{number:05}-of-{shards:05}.parquet", rows)
    return folder


def apps(data: Path, questions: Iterable[str]) -> Path:
    """codeparrot/apps' training split."""
    rows = ({"id": n, "question": each, "solutions": "[]"} for n, each in enumerate(questions))
    return write_jsonl(data / "codeparrot" / "apps" / "train.jsonl", rows)


def opensciencereasoning(data: Path, questions: dict[str, int]) -> Path:
    """nvidia/OpenScienceReasoning-2: questions with the length of their example answers; one is no choice."""
    folder = data / "nvidia" / "OpenScienceReasoning-2"
    rows = [{"expected_answer": "B", "input": q, "output": "x" * n} for q, n in questions.items()]
    rows.append({"expected_answer": "42 J", "input": "How much energy?", "output": "x" * 9999})
    write_parquet(folder / "train" / "OpenScienceReasoning-2.parquet", rows)
    return folder


def am_distilled(data: Path, questions: Iterable[str]) -> Path:
    """a-m-team/AM-DeepSeek-R1-Distilled-1.4M: fields that are null in the first rows and objects later."""
    folder = data / "a-m-team" / "AM-DeepSeek-R1-Distilled-1.4M"

    def row(text: str, source: str, case: object) -> Row:
        asked = {"source": source, "reference_answer": None, "test_case": case}
        said = {"source": "am-0309", "think_content": "t", "answer_content": "a"}
        return {
            "messages": [
                {"role": "user", "content": text, "info": asked},
                {"role": "assistant", "content": "<think>t</think><answer>a</answer>", "info": said},
            ]
        }

    rows = [row(text, "InfinityInstruct", None) for text in questions]
    rows.append(row("Write a parser.", "KodCode", {"test_code": "c", "test_entry_point": "e"}))
    write_jsonl(folder / "am_0.9M.jsonl.zst", rows[::2])
    write_jsonl(folder / "am_0.5M.jsonl.zst", rows[1::2])
    return folder


def released(data: Path, part: str, rows: Iterable[Row]) -> Path:
    """Alibaba-Apsara/Superior-Reasoning-SFT-gpt-oss-120b, one stage."""
    name = "Superior-Reasoning-SFT-gpt-oss-120b"
    return write_jsonl(data / "Alibaba-Apsara" / name / f"{name}-{part}-train-data.jsonl", rows)


def released_logprobs(data: Path, rows: list[Row], name: str = "train-00000-of-00001.parquet") -> Path:
    """…-Logprob."""
    return write_parquet(data / "Alibaba-Apsara" / "Superior-Reasoning-SFT-gpt-oss-120b-Logprob" / name, rows)
