"""
name:
Harness

dataset:
the benchmarks of dasd-harness: aime24, aime25, gpqa_diamond, lcb_*, micro_*

abstract:
Prompts, data and graders are those of dasd-harness, so that lighteval's score on a model's responses
is the one that `harness evaluate` gives. `lighteval endpoint litellm` only, because a truncated
response never scores and only there the server's finish reason can be learned.

    lighteval endpoint litellm "model_name=openai/NAME,base_url=URL,…" "harness:aime24@n=64" \
        --custom-tasks tasks.py

languages:
english

tags:
math, science, code-generation, reasoning
"""

# This file runs in lighteval's environment, where no module of the harness can be imported: it asks
# worker.py, in our own Python, for everything that decides a score. lighteval is imported by name,
# because it is not installed where this file is checked.

import functools
import hashlib
import importlib
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def module(name: str) -> Any:
    return importlib.import_module(name)


litellm = module("litellm")
SampleLevelComputation: Any = module("lighteval.metrics.metrics_sample").SampleLevelComputation
CustomLogger: Any = module("litellm.integrations.custom_logger").CustomLogger

# Our Python ---------------------------------------------------------------------------------


def our_python() -> str:
    """The interpreter that has the harness: HARNESS_PYTHON, or the environment around this file."""
    if named := os.environ.get("HARNESS_PYTHON"):
        return named
    for folder in Path(__file__).resolve().parents:
        for environment in (folder, folder / ".venv"):
            if (environment / "pyvenv.cfg").is_file():
                return str(environment / "bin" / "python")
    raise RuntimeError("set HARNESS_PYTHON to the Python that dasd-harness is installed in")


class Worker:
    """worker.py as a process that lives as long as this one."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [our_python(), "-P", "-m", "benchmarks.lighteval_tasks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def ask(self, **request: Any) -> Any:
        (reply,) = self.ask_all([request])
        return reply

    def ask_all(self, requests: Iterable[dict[str, Any]]) -> Iterator[Any]:
        """The replies in order; requests are sent meanwhile, for several are answered at a time."""
        lines = [json.dumps(request) + "\n" for request in requests]
        sending = threading.Thread(target=self.send, args=(lines,), daemon=True)
        sending.start()
        for _ in lines:
            line = self.process.stdout.readline()  # type: ignore[union-attr]
            if not line:
                raise RuntimeError("the worker of dasd-harness ended; its message stands above")
            reply = json.loads(line)
            if isinstance(reply, dict) and "error" in reply:
                raise RuntimeError(reply["error"])
            yield reply
        sending.join()

    def send(self, lines: list[str]) -> None:
        for line in lines:
            self.process.stdin.write(line)  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]


worker = functools.cache(Worker)

# Finish reasons -----------------------------------------------------------------------------

REASONING = re.compile(
    r"<(?:think|thinking|budget:thinking)>(.*?)</(?:think|thinking|budget:thinking)>(.*)", re.S
)


class FinishReasons(CustomLogger):  # type: ignore[misc]
    """Why each response ended, as the server said: lighteval keeps the text and drops the reason.

    Kept in a file beside lighteval's own store of replies, because replies that it finds there are not
    asked for again. A response is known by its prompt and its text.
    """

    def __init__(self) -> None:
        super().__init__()
        home = Path("~/.cache/huggingface/lighteval/finish_reasons.jsonl").expanduser()
        self.file = Path(os.environ.get("HARNESS_FINISH_REASONS", home))
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.touch()
        self.writing = threading.Lock()
        whole = self.file.read_bytes()
        os.truncate(self.file, whole.rfind(b"\n") + 1)  # a last line that a crash cut off
        self.known: dict[str, str] = dict(map(json.loads, whole.split(b"\n")[:-1]))

    def log_post_api_call(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """litellm calls this with each reply, before it returns it."""
        reply = json.loads(kwargs["original_response"])
        prompt = kwargs["messages"][-1]["content"]
        for choice in reply["choices"]:
            message = choice["message"]
            thought = message.get("reasoning_content", message.get("reasoning"))
            self.note(response_key(prompt, thought, message.get("content")), choice["finish_reason"])

    def note(self, key: str, reason: str) -> None:
        with self.writing, self.file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps([key, reason]) + "\n")
            self.known[key] = reason

    def of(self, prompt: str, reasoning: str | None, content: str) -> str:
        """`stop`, `length` or `other`. Raises RuntimeError where no server said."""
        reason = self.known.get(response_key(prompt, reasoning, content))
        if reason is None:
            raise RuntimeError(
                f"no server said why a response ended, so nobody knows whether it was cut off "
                f"({content[:60]!r}). Use `lighteval endpoint litellm`; if the reply came from lighteval's "
                f"store, delete that and {self.file} together; if requests failed, run again."
            )
        return reason if reason in ("stop", "length") else "other"


def response_key(prompt: str, reasoning: str | None, content: str | None) -> str:
    """A hash of a prompt and a response, whether or not litellm has cut out the reasoning already."""
    if not reasoning and (split := REASONING.match(content or "")):
        reasoning, content = split[1], split[2]
    return hashlib.sha256("\0".join((prompt, reasoning or "", content or "")).encode()).hexdigest()


def whole_text(reasoning: str | None, content: str, finish_reason: str) -> str:
    """The response with its reasoning, as the harness stores it."""
    if not reasoning:
        return content
    return f"<think>{reasoning}{'</think>' if content or finish_reason == 'stop' else ''}{content}"


finish_reasons = FinishReasons()
litellm.callbacks.append(finish_reasons)
litellm.disable_cache()  # it would answer equal prompts, which draws are, with one and the same reply

# Tasks --------------------------------------------------------------------------------------


class Ours(SampleLevelComputation):  # type: ignore[misc]
    """One of our benchmarks: makes lighteval's documents, and grades the responses to them.

    `n` is the number of draws, which `harness:NAME@n=4` sets; each draw is a document of its own,
    because the order of options is another for each.
    """

    def __init__(self, name: str, version: int, draws: int) -> None:
        self.name = name
        self.version = version
        self.n = draws
        self.rows: int | None = None

    def __repr__(self) -> str:
        """Part of the name under which lighteval stores replies."""
        return f"harness {self.name} version {self.version} n={self.n}"

    def __call__(self, line: dict[str, Any], task_name: str) -> Any:
        """The document of a row, which is a number; None for numbers that the benchmark does not need."""
        number = line["number"]
        if self.rows is not None and number >= self.rows:
            return None
        row = worker().ask(do="row", benchmark=self.name, draws=self.n, number=number)
        if row is None:
            self.rows = number
            return None
        row["kept"] = json.dumps(row["kept"])  # details are saved as Parquet, which has no empty struct
        return module("lighteval.tasks.requests").Doc(
            query=row["prompt"], choices=[""], gold_index=0, task_name=task_name, specific=row
        )

    def compute(self, responses: list[Any], docs: list[Any]) -> list[float]:
        """1.0 or 0.0 for each document. Raises RuntimeError where one cannot be graded: never a 0."""
        requests = [self.request(response, doc) for response, doc in zip(responses, docs, strict=True)]
        grades = list(worker().ask_all(requests))
        if ungraded := [grade for grade in grades if grade["correct"] is None]:
            raise RuntimeError(f"{len(ungraded)} responses were not graded: {ungraded[0]['reason']}")
        return [float(grade["correct"]) for grade in grades]

    def request(self, response: Any, doc: Any) -> dict[str, Any]:
        content, reasoning = response.text[0] or "", (response.reasonings or [None])[0]
        reason = finish_reasons.of(doc.query, reasoning, content)
        return {
            "do": "grade",
            "benchmark": self.name,
            **doc.specific,
            "kept": json.loads(doc.specific["kept"]),
            "text": whole_text(reasoning, content, reason),
            "finish_reason": reason,
        }


def task(described: dict[str, Any], rows: str) -> Any:
    """One benchmark as lighteval's configuration of a task."""
    ours = Ours(described["name"], described["version"], described["draws"])
    metric = module("lighteval.metrics.utils.metric_utils").SampleLevelMetric(
        metric_name="avg@n",
        category=module("lighteval.tasks.requests").SamplingMethod.GENERATIVE,
        higher_is_better=True,
        sample_level_fn=ours,
        corpus_level_fn=module("numpy").mean,
        batched_compute=True,
    )
    return module("lighteval.tasks.lighteval_task").LightevalTaskConfig(
        name=f"harness:{ours.name}",
        prompt_function=ours,
        hf_repo=rows,
        hf_subset="default",
        hf_avail_splits=["test"],
        evaluation_splits=["test"],
        generation_size=described["max_tokens"],
        metrics=[metric],
        stop_sequence=[],
        version=ours.version,
    )


def tasks() -> list[Any]:
    listed = worker().ask(do="list")
    return [task(described, listed["rows"]) for described in listed["benchmarks"]]


TASKS_TABLE = tasks()
