"""What runs inside lighteval's environment: its own metrics on responses, as JSON lines.

Run as a file by the interpreter of that environment; it imports no module of the harness.

    python lighteval_metrics.py text              reads requests until stdin ends
    python lighteval_metrics.py code '{limits}'   reads one request and judges one program

The metrics are those of lighteval's tasks `aime24`, `gpqa:diamond` and `lcb:codegeneration`, and get
a response as lighteval's pipeline gives it to them: without what stands between `<think>` and
`</think>` where both tags are there. The first line written says which lighteval this is.

`code` RUNS what the model wrote, in a process forked from this one, as lighteval does. So it is
started under bubblewrap only, once for each program: what a program does to its own verdict touches
no other.
"""

import contextlib
import importlib
import json
import logging
import os
import resource
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

REASONING = [("<think>", "</think>")]
LETTERS = ["A", "B", "C", "D"]


def lighteval(module: str) -> Any:
    """A module of lighteval, by name: it is not installed where this file is checked."""
    return importlib.import_module(f"lighteval.{module}")


def without_reasoning(text: str) -> str:
    stripped: str = lighteval("utils.utils").remove_reasoning_tags(text, REASONING)
    return stripped


class Extractive:
    """One of lighteval's pass@k metrics that extract an answer, with what it extracted."""

    def __init__(self, metric: Any) -> None:
        self.metric = metric
        self.extracted: list[str] = []
        metric.sample_level_fn.compute_score = self.noting(metric.sample_level_fn.compute_score)

    def noting(self, score: Callable[..., float]) -> Callable[..., float]:
        """The metric's own score of a sample, noting the extractions that it leaves in the document."""

        def scored(doc: Any, model_response: Any) -> float:
            result = score(doc=doc, model_response=model_response)
            self.extracted = (doc.specific or {}).get("extracted_predictions", [])
            return result

        return scored

    def judge(self, request: dict[str, Any], choices: list[str]) -> dict[str, Any]:
        """Verdict and extractions of one response, whose right answer is one of `choices`."""
        doc = lighteval("tasks.requests").Doc(
            query=request["prompt"], choices=choices, gold_index=choices.index(request["gold"])
        )
        response = lighteval("models.model_output").ModelResponse(
            text=[request["text"]], text_post_processed=[without_reasoning(request["text"])]
        )
        self.extracted = []
        (score,) = self.metric.compute_sample(doc=doc, model_response=response).values()
        return {"correct": bool(score == 1), "extracted": self.extracted}


def judge_texts(requests: TextIO, out: TextIO) -> None:
    """Answers requests for integers and letters until there are no more."""
    integers = Extractive(lighteval("tasks.tasks.aime").aime24.metrics[0])
    letters = Extractive(lighteval("tasks.tasks.gpqa").gpqa_diamond_instruct.metrics[0])
    greet(out)
    for line in requests:
        request = json.loads(line)
        if request["kind"] == "letters":
            reply(out, letters.judge(request, LETTERS))
        else:
            reply(out, integers.judge(request, [request["gold"]]))


def judge_program(request: dict[str, Any], limits: dict[str, int], out: TextIO) -> None:
    """The results of one program's tests, as lighteval's codegen metric finds them."""
    metric = lighteval("tasks.tasks.lcb.codegen_metrics")
    code = metric.extract_code(without_reasoning(request["text"]))
    tests = json.dumps({key: request[key] for key in ("inputs", "outputs", "fn_name")})
    greet(out)
    confine(limits)
    measured, results = metric.codegen_metrics(
        [{"input_output": tests}], [[code]], k_list=[1], num_process_evaluate=1
    )
    ((found,),) = results.values()
    shown = [result if isinstance(result, int) else repr(result) for result in found]
    reply(out, {"correct": bool(measured["pass@1"] == 1), "extracted": [code], "results": shown})


def confine(limits: dict[str, int]) -> None:
    """Leaves root, and limits memory, processes and output, before a program is run."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(limits["uid"], limits["uid"], limits["uid"])
        os.setresuid(limits["uid"], limits["uid"], limits["uid"])
    resource.setrlimit(resource.RLIMIT_AS, (limits["address_space"],) * 2)
    resource.setrlimit(resource.RLIMIT_NPROC, (limits["processes"],) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


@contextlib.contextmanager
def replies_apart() -> Iterator[TextIO]:
    """Standard output for replies alone; what else is printed goes to standard error."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        yield out


def greet(out: TextIO) -> None:
    reply(out, {"lighteval": importlib.import_module("lighteval").__version__})


def reply(out: TextIO, value: dict[str, Any]) -> None:
    out.write(json.dumps(value) + "\n")
    out.flush()


def main() -> None:
    logging.disable(logging.WARNING)
    with replies_apart() as out:
        if sys.argv[1] == "text":
            judge_texts(sys.stdin, out)
        else:
            judge_program(json.loads(sys.stdin.readline()), json.loads(sys.argv[2]), out)


if __name__ == "__main__":
    main()
