"""Our verdicts beside those of lighteval's own metrics, sample by sample, on stored generations.

Integers go to the metric of lighteval's `aime24`, letters to that of `gpqa:diamond` with the gold
letter of the kept option order, programs to that of `lcb:codegeneration`. The metrics run in
lighteval's environment (`harness setup lighteval`), as another process: lighteval_metrics.py.

lighteval's code metric runs a program inside the process that judges it. Here that process lives
under bubblewrap, one for each program: no network, nothing of this computer but the interpreter and
its libraries, read-only; without bubblewrap it is not run at all.

A verdict that lighteval gives and we do not is no proof of a fault on either side: it knows no token
limit (a truncated response may score), and takes a number from anywhere where no box is. So each
disagreement carries a kind.
"""

import itertools
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Protocol

import msgspec

from harness.errors import DataError, HarnessError, SandboxError, UsageError
from harness.generate import read_rows
from harness.grading.choices import gold_letter
from harness.grading.code import TIME_LIMIT, CodeTest
from harness.machine import Machine, SandboxSettings
from harness.sandboxes.bubblewrap import SYSTEM_FOLDERS, kept
from harness.setup import environment_python
from harness.types import Generation, Grade, Question

Metric = Literal["integers", "letters", "code"]
Say = Callable[[str], None]
Tests = Callable[[Question], tuple[list[CodeTest], str | None]]
"""The tests of a code question, and the name of the function that they call (None: stdin)."""

METRICS: dict[str, Metric] = {"math": "integers", "science": "letters", "code": "code"}

Kind = Literal[
    "",
    "truncated",
    "box only in the reasoning",
    "number without box",
    "several boxes",
    "box read differently",
    "letter without its form",
    "several letters",
    "letter read differently",
    "code only in the reasoning",
    "other code extracted",
    "time limit",
    "passes in lighteval's process only",
    "passes in our sandbox only",
    "ungraded here",
    "no verdict from lighteval",
]

SCRIPT = Path(__file__).with_name("lighteval_metrics.py")
START_SECONDS = 600.0
TEXT_SECONDS = 60.0
TEST_SECONDS = 7.0
PROGRAM_SECONDS = 60.0
LONGEST_REPLY = 1 << 24
LONGEST_SHOWN = 300
FIRST_UID = 65000


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One graded evaluation of a run: a row of its report, a benchmark, and the files that hold it."""

    row: str
    benchmark: str
    generations: Path
    grades: Path


@dataclass(frozen=True, kw_only=True)
class Theirs:
    """lighteval's verdict on one response. `correct` is None where it gave none, for `reason`.

    `extracted` is what its metric compared: values, then the text that they were read from; for code
    the program. `results` are the codes of a program's tests up to the first that failed.
    """

    correct: bool | None
    extracted: tuple[str, ...] = ()
    results: tuple[Any, ...] = ()
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One line of crosscheck.jsonl: both verdicts on one response, and what each grader extracted.

    Of a program the extractions are the first line that differs, and empty where it is the same
    program; `detail` then holds both graders' results.
    """

    row: str
    benchmark: str
    question: str
    draw: int
    ours: bool | None
    theirs: bool | None
    our_extraction: str | None
    their_extraction: str | None
    kind: Kind
    detail: dict[str, Any]

    @property
    def agrees(self) -> bool:
        return not self.kind


class Reply(msgspec.Struct):
    """One line of lighteval_metrics.py."""

    correct: bool
    extracted: list[str]
    results: list[Any] = []


# The run ------------------------------------------------------------------------------------


def evaluations(run: Path) -> list[Evaluation]:
    """The graded evaluations that `runs/<name>/eval/<row>/<benchmark>` link to, by name.

    Raises UsageError where there is none.
    """
    found = [evaluation(link) for link in sorted(run.glob("eval/*/*")) if (link / "stage.json").exists()]
    if not found:
        raise UsageError(f"{run} holds no graded evaluation", "Run `harness evaluate` first.")
    return found


def evaluation(link: Path) -> Evaluation:
    marked = link.resolve()
    asked = json.loads((marked / "stage.json").read_bytes())["inputs"][0]
    return Evaluation(
        row=link.parent.name,
        benchmark=link.name,
        generations=marked.parent / asked / "generations.jsonl",
        grades=marked / "grades.jsonl",
    )


def crosscheck(
    found: Evaluation, questions: dict[str, Question], machine: Machine, tests: Tests | None = None
) -> Iterator[Compared]:
    """Both verdicts on every generation of an evaluation, in the order of the generations.

    `questions` by id, as the benchmark loads them; `tests` is needed where they are about code.
    Raises UsageError where lighteval's environment is missing, SandboxError where programs cannot be
    confined, DataError where the files do not belong together.
    """
    grades = {(grade.question, grade.draw): grade for grade in read_rows(found.grades, Grade)}
    metric = metric_of(questions)
    with judge_for(metric, machine, tests) as judge:
        samples = ((known(questions, row, found), row) for row in read_rows(found.generations, Generation))
        for question, generation, theirs in judged(judge, samples):
            grade = grades.get((generation.question, generation.draw))
            if grade is None:
                raise DataError(
                    f"{found.grades}: no grade of {generation.question}, draw {generation.draw}",
                    "Run `harness evaluate` again to grade what is missing.",
                )
            yield compared(found, metric, question, generation, grade, theirs)


def metric_of(questions: dict[str, Question]) -> Metric:
    domains = {question.domain for question in questions.values()}
    if len(domains) != 1 or not domains <= set(METRICS):
        raise UsageError(f"no metric of lighteval fits questions of the domains {sorted(domains)}")
    return METRICS[domains.pop()]


def known(questions: dict[str, Question], generation: Generation, found: Evaluation) -> Question:
    question = questions.get(generation.question)
    if question is None:
        raise DataError(
            f"{found.generations} answers {generation.question!r}, which {found.benchmark} does not ask",
            "Give the data that the run was made with.",
        )
    return question


def judged(
    judge: "Judge", samples: Iterable[tuple[Question, Generation]]
) -> Iterator[tuple[Question, Generation, Theirs]]:
    """The samples with lighteval's verdicts, in their order, `judge.workers` at a time."""
    waiting: deque[tuple[Question, Generation, Future[Theirs]]] = deque()
    with ThreadPoolExecutor(judge.workers) as pool:
        for question, generation in samples:
            waiting.append((question, generation, pool.submit(judge.judge, question, generation)))
            if len(waiting) >= 2 * judge.workers:
                yield answered(*waiting.popleft())
        while waiting:
            yield answered(*waiting.popleft())


def answered(
    question: Question, generation: Generation, verdict: Future[Theirs]
) -> tuple[Question, Generation, Theirs]:
    return question, generation, verdict.result()


# Comparing ----------------------------------------------------------------------------------

BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*\{")
LETTER = re.compile(r"(?i:answer)\W*:\W*([ABCD])\b|\\boxed\s*\{\W*([ABCD])\b")


def compared(
    found: Evaluation,
    metric: Metric,
    question: Question,
    generation: Generation,
    grade: Grade,
    theirs: Theirs,
) -> Compared:
    """Both verdicts on one response, side by side."""
    ours, extracted = grade.extracted, " | ".join(theirs.extracted) or None
    detail: dict[str, Any] = {"gold": question.gold} if metric == "integers" else {}
    if metric == "letters":
        detail["gold"] = grade.detail.get("gold")
    if metric == "code":
        ours, extracted = first_difference(ours or "", "".join(theirs.extracted))
        detail |= {"ours": grade.detail.get("results"), "theirs": list(theirs.results)}
    if theirs.reason:
        detail["lighteval"] = theirs.reason
    return Compared(
        row=found.row,
        benchmark=found.benchmark,
        question=question.id,
        draw=generation.draw,
        ours=grade.correct,
        theirs=theirs.correct,
        our_extraction=shortened(ours),
        their_extraction=shortened(extracted),
        kind=kind_of(metric, generation, grade, theirs),
        detail=detail,
    )


def kind_of(metric: Metric, generation: Generation, grade: Grade, theirs: Theirs) -> Kind:
    """Why two verdicts differ, as far as the response shows it; empty where they are equal."""
    if theirs.correct is None:
        return "no verdict from lighteval"
    if grade.correct is None:
        return "ungraded here"
    if grade.correct == theirs.correct:
        return ""
    if generation.truncated:
        return "truncated"
    match metric:
        case "integers":
            return kind_of_integer(generation, grade)
        case "letters":
            return kind_of_letter(generation, grade)
        case "code":
            return kind_of_program(grade, theirs)


def kind_of_integer(generation: Generation, grade: Grade) -> Kind:
    if grade.extracted is None:
        return "box only in the reasoning" if BOX.search(generation.text) else "number without box"
    return "several boxes" if len(BOX.findall(generation.answer)) > 1 else "box read differently"


def kind_of_letter(generation: Generation, grade: Grade) -> Kind:
    if grade.extracted is None:
        return "letter without its form"
    given = {line or box for line, box in LETTER.findall(generation.answer)}
    return "several letters" if len(given) > 1 else "letter read differently"


def kind_of_program(grade: Grade, theirs: Theirs) -> Kind:
    program = "".join(theirs.extracted)
    if (grade.extracted or "") != program:
        return "other code extracted" if grade.extracted else "code only in the reasoning"
    if TIME_LIMIT in (*theirs.results, *grade.detail.get("results", [])):
        return "time limit"
    return "passes in lighteval's process only" if theirs.correct else "passes in our sandbox only"


def first_difference(ours: str, theirs: str) -> tuple[str, str]:
    """The first line that differs in two programs, with its number; empty where none does."""
    lines = itertools.zip_longest(ours.split("\n"), theirs.split("\n"), fillvalue="(no line)")
    for number, (left, right) in enumerate(lines, 1):
        if left != right:
            return f"{number}: {left}", f"{number}: {right}"
    return "", ""


def shortened(text: str | None) -> str | None:
    return text if text is None or len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"


# Telling ------------------------------------------------------------------------------------


def listed(rows: Iterable[Compared]) -> Iterator[str]:
    """One line for each disagreement, with both extractions."""
    for row in rows:
        if not row.agrees:
            ours, theirs = shown(row.ours, row.our_extraction), shown(row.theirs, row.their_extraction)
            results = f" {row.detail['ours']} / {row.detail['theirs']}" if "theirs" in row.detail else ""
            place = f"{row.row} {row.benchmark} {row.question} draw {row.draw}"
            yield f"{place}: {row.kind}. Ours {ours}; lighteval {theirs}{results}"


def shown(correct: bool | None, extraction: str | None) -> str:
    verdict = {True: "right", False: "wrong", None: "no verdict"}[correct]
    return verdict if not extraction else f"{verdict} ({extraction!r})"


def summary(rows: Iterable[Compared]) -> Iterator[str]:
    """For each evaluation: agreement, both scores, and the disagreements by kind."""
    for (row, benchmark), group in groupby(rows, lambda each: (each.row, each.benchmark)):
        samples = list(group)
        kinds = Counter(each.kind for each in samples if not each.agrees)
        agree = len(samples) - kinds.total()
        yield (
            f"{row} {benchmark}: agree {agree} of {len(samples)}; right here "
            f"{sum(each.ours is True for each in samples)}, in lighteval "
            f"{sum(each.theirs is True for each in samples)}"
        )
        yield from (f"  {count:6} {kind}" for kind, count in kinds.most_common())


# lighteval as another process ---------------------------------------------------------------


class Judge(Protocol):
    """Gives lighteval's verdict on a response, from `workers` threads at once."""

    workers: int

    def judge(self, question: Question, generation: Generation) -> Theirs: ...


@contextmanager
def judge_for(metric: Metric, machine: Machine, tests: Tests | None) -> Iterator[Judge]:
    """The judge of one metric, started, and stopped on every way out."""
    python = environment_python("lighteval", machine)
    if metric == "code":
        if tests is None:
            raise UsageError("programs are judged by their tests, and none were given")
        yield CodeJudge(python, machine.sandbox, tests)
        return
    with TextJudge(python, metric) as judge:
        yield judge


class TextJudge(AbstractContextManager["TextJudge"]):
    """The metrics that only read: one process for all responses, replaced where it hangs or dies."""

    workers = 1

    def __init__(self, python: Path, metric: Metric) -> None:
        self.python = python
        self.metric = metric
        self.process: LinedProcess | None = None

    def judge(self, question: Question, generation: Generation) -> Theirs:
        gold = question.gold
        if self.metric == "letters":
            if "order" not in generation.kept:
                return Theirs(correct=None, reason="the option order was not kept with the generation")
            gold = gold_letter(generation.kept["order"])
        process = self.running()
        process.send(
            {"kind": self.metric, "prompt": generation.prompt, "gold": gold, "text": generation.text}
        )
        theirs = verdict(process.read(TEXT_SECONDS), process)
        if theirs.correct is None:
            self.close()
        return theirs

    def running(self) -> "LinedProcess":
        if self.process is None:
            self.process = LinedProcess([str(self.python), "-I", str(SCRIPT), "text"])
            if not self.process.read(START_SECONDS):
                raise HarnessError(
                    f"lighteval does not start: {self.process.complaint()}", "Run: harness setup lighteval"
                )
        return self.process

    def close(self) -> None:
        if self.process is not None:
            self.process.close()
            self.process = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class CodeJudge:
    """The metric that runs programs: a bubblewrap namespace and a lighteval process for each."""

    def __init__(self, python: Path, settings: SandboxSettings, tests: Tests) -> None:
        if shutil.which("bwrap") is None:
            raise SandboxError(
                "lighteval's code metric runs what the model wrote, and bubblewrap is not installed",
                "Install bubblewrap (Debian: apt-get install bubblewrap).",
            )
        self.workers = settings.workers
        self.command = confined(python)
        self.settings = settings
        self.tests = tests
        self.uids = itertools.count(FIRST_UID)

    def judge(self, question: Question, generation: Generation) -> Theirs:
        tests, function = self.tests(question)
        limits = {
            "uid": next(self.uids),
            "address_space": self.settings.memory_mb * 2**20,
            "processes": self.settings.processes,
        }
        process = LinedProcess([*self.command, json.dumps(limits)])
        try:
            process.send(
                {
                    "text": generation.text,
                    "inputs": [test.input for test in tests],
                    "outputs": [test.output for test in tests],
                    "fn_name": function,
                }
            )
            if not process.read(PROGRAM_SECONDS):
                raise SandboxError(
                    f"lighteval does not start under bubblewrap: {process.complaint()}",
                    "Its environment must be readable by everybody; `harness setup lighteval` builds one.",
                )
            return verdict(process.read(TEST_SECONDS * len(tests) + PROGRAM_SECONDS), process)
        finally:
            process.close()


def verdict(line: bytes, process: "LinedProcess") -> Theirs:
    """The verdict in a reply; none where the process died, hung or wrote something else."""
    if not line:
        return Theirs(correct=None, reason=f"its process gave no verdict {process.complaint()}".strip())
    try:
        reply = msgspec.json.decode(line, type=Reply)
    except msgspec.MsgspecError as error:
        return Theirs(correct=None, reason=f"its process wrote no verdict ({error})")
    return Theirs(
        correct=reply.correct, extracted=tuple(dict.fromkeys(reply.extracted)), results=tuple(reply.results)
    )


class LinedProcess:
    """A process that is sent a JSON line and answers with one."""

    def __init__(self, command: list[str]) -> None:
        self.complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.complaints,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        )

    def send(self, value: dict[str, Any]) -> None:
        """Writes one line. A process that is gone shows when it is read."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(value).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return

    def read(self, seconds: float) -> bytes:
        """One line; empty where the process ended, or was killed after `seconds`."""
        assert self.process.stdout is not None
        alarm = threading.Timer(seconds, self.process.kill)
        alarm.start()
        try:
            line = self.process.stdout.readline(LONGEST_REPLY)
        finally:
            alarm.cancel()
        return line if line.endswith(b"\n") else b""

    def complaint(self) -> str:
        """The end of what it wrote to standard error."""
        self.complaints.seek(0, os.SEEK_END)
        self.complaints.seek(max(0, self.complaints.tell() - 500))
        return " ".join(self.complaints.read().decode(errors="replace").split())

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.complaints.close()


# Confining ----------------------------------------------------------------------------------

PREFIXES = "import sys; print(sys.prefix, sys.base_prefix, sep=chr(10))"


def confined(python: Path) -> list[str]:
    """The bwrap command up to the limits: one read-only root, a small /tmp, no network, no home.

    Run by root there is no user namespace: lighteval_metrics.py itself leaves root before it runs a
    program, as a limit on processes does not bind a uid that root owns outside.
    """
    system = [part for path in SYSTEM_FOLDERS if os.path.exists(path) for part in kept(path)]
    readable = [part for prefix in prefixes(python) for part in ("--ro-bind", prefix, prefix)]
    as_root = ("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
    return [
        "bwrap",
        *("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *("--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"),
        *(as_root if os.getuid() == 0 else ("--unshare-user",)),
        *system,
        *readable,
        *("--ro-bind", str(SCRIPT), "/lighteval_metrics.py"),
        *("--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"),
        *("--perms", "1777", "--size", str(16 * 2**20), "--tmpfs", "/dev/shm"),  # noqa: S108
        *("--perms", "1777", "--size", str(64 * 2**20), "--tmpfs", "/tmp", "--remount-ro", "/"),  # noqa: S108
        *("--setenv", "HOME", "/tmp", "--setenv", "LANG", "C.UTF-8", "--setenv", "PATH", "/usr/bin:/bin"),  # noqa: S108
        *("--setenv", "OMP_NUM_THREADS", "1", "--setenv", "OPENBLAS_NUM_THREADS", "1"),
        *("--", str(python), "-I", "-B", "/lighteval_metrics.py", "code"),
    ]


@cache
def prefixes(python: Path) -> tuple[str, ...]:
    """The folders that an interpreter needs: its environment, and the Python that made it."""
    done = subprocess.run([str(python), "-I", "-c", PREFIXES], capture_output=True, text=True, check=False)
    if done.returncode:
        raise HarnessError(
            f"{python} does not run: {done.stderr.strip()[-300:]}", "Run: harness setup lighteval"
        )
    return tuple(prefix for prefix in dict.fromkeys(done.stdout.split("\n")) if prefix not in ("", "/usr"))
