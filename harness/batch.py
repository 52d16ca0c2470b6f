"""Asking by batch files: what is to be asked is written, what was answered is read.

    batch/input-0001.jsonl     requests that no answer is there for yet
    batch/output-….jsonl       answers, under any name that does not begin with "input-"

The format is OpenAI's: a line is `{"custom_id", "method", "url", "body"}`, and an answer's
`{"custom_id", "response": {"status_code", "body"}, "error"}` (platform.openai.com/docs/guides/batch);
vLLM's `run_batch` reads and writes it too. Answers become the very rows that the server's would.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import msgspec

from harness.answering import Response, response
from harness.asking import Request, asked
from harness.batch_api import BatchApi
from harness.client import Refused, Transient, understood
from harness.endpoint import Endpoint
from harness.engines import OPENAI_PARAMETERS
from harness.engines.batch import batch
from harness.errors import HarnessError, ServerError
from harness.eventloop import run
from harness.files import write_pieces
from harness.generate import SILENT, Progress
from harness.machine import Machine
from harness.rows import RowFile
from harness.serve import is_neutral
from harness.session import SESSION, check_session
from harness.types import Sampling

Say = Callable[[str], None]

FOLDER = "batch"
ROUNDS = 3  # what a provider let expire or refused is submitted again, so often in all
MOST_LINES = 50_000
MOST_BYTES = 200_000_000
"""Both are OpenAI's limits for one file."""


class BatchPending(HarnessError):
    """Not a failure: answers are still to come."""

    exit_code: ClassVar[int] = 75


class Answer(msgspec.Struct):
    status_code: int = 0
    body: msgspec.Raw = msgspec.Raw()


class Fault(msgspec.Struct):
    code: str | None = None
    message: str = ""


class Line(msgspec.Struct):
    custom_id: str = ""
    response: Answer | None = None
    error: Fault | None = None


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a line of an output file stands."""

    path: Path
    start: int
    size: int


@dataclass
class Collected:
    """What a look at the output files brought: rows, what was refused and why, what nobody asked for."""

    rows: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    left: list[Path] = field(default_factory=list)
    missing: int = 0


def ask_by_files(
    requests: Iterable[Request],
    endpoint: Endpoint,
    rows: Path,
    *,
    progress: Progress = SILENT,
    say: Callable[[str], None] = lambda text: None,
) -> Collected:
    """Turns the answers that are there into rows, and writes the requests that are left to input files.

    An answer that is no completion is told of and asked for again. Raises ServerError where an answer is of
    another model, and where rows of another engine are there.
    """
    folder = rows.parent / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    found = Collected()
    with RowFile(rows) as file:
        check_session(rows.parent / SESSION, endpoint.fingerprint, has_rows=bool(file.keys))
        places = answers(folder)

        def unanswered() -> Iterator[Request]:
            for request in requests:
                if not file.claim(request.key):
                    continue
                if (place := places.get(custom_id(request))) is None:
                    yield request
                    continue
                try:
                    row = answered(request, read_line(place), endpoint)
                except (Refused, Transient) as fault:
                    found.faults[fault_of(fault)] += 1
                    yield request
                    continue
                file.append([row])
                found.rows += 1
                progress.advance(rows=1, tokens=row.row.completion_tokens)

        found.left, found.missing = write_inputs(unanswered(), endpoint, folder)
    for reason, count in found.faults.most_common(5):
        say(f"{count} of the answers are none, and are asked for again: {reason}")
    return found


def ask_in_batches(
    requests: Iterable[Request],
    endpoint: Endpoint,
    rows: Path,
    machine: Machine,
    progress: Progress,
    say: Say,
) -> None:
    """Asks for every request that `rows` does not hold yet, by files; where machine.toml names the
    provider's URL, through its API. Raises BatchPending while answers are missing."""
    settings = machine.engine(batch.name)
    held = list(requests)
    for _ in range(ROUNDS):
        found = ask_by_files(held, endpoint, rows, progress=progress, say=say)
        if not found.left:
            return
        if not settings.base_url:
            break
        key = os.environ.get(settings.api_key_env, "")
        api = BatchApi(settings.base_url, key, machine.batch_poll)
        run(submitted(api, found.left, say))
    else:
        found = ask_by_files(held, endpoint, rows, progress=progress, say=say)
        if not found.left:
            return
    raise pending(found, rows.parent)


async def submitted(api: BatchApi, inputs: list[Path], say: Say) -> None:
    async with api:
        await api.answer_all(inputs, say)


def batch_endpoint(model: str, sampling: Sampling, machine: Machine) -> Endpoint:
    """What the requests are written for. Parameters that OpenAI does not know are left out while they are
    off: its own API refuses them."""
    return Endpoint(
        base_url="",
        model=model,
        engine=batch,
        fingerprint={**batch.fingerprint(machine), "model": model},
        accepts=OPENAI_PARAMETERS if is_neutral(sampling) else batch.accepts,
    )


def pending(found: Collected, folder: Path) -> BatchPending:
    """What to do where nobody submits the files."""
    files = ", ".join(path.name for path in found.left[:3]) + (" …" if len(found.left) > 3 else "")
    return BatchPending(
        f"{found.missing:,} answers are still to come; their requests are in {folder / FOLDER}: {files}",
        "submit these files, put the answers beside them as output-….jsonl, and run the same command again; "
        "with [engines.batch] base_url in machine.toml the harness submits and fetches them itself",
    )


def custom_id(request: Request) -> str:
    """A name of the question and draw that any provider takes: 32 hexadecimal digits."""
    question, draw = request.key
    return hashlib.sha256(f"{question}\0{draw}".encode()).hexdigest()[:32]


def answers(folder: Path) -> dict[str, Place]:
    """Where each answer stands; of several the last that is a completion, or the last."""
    decoder = msgspec.json.Decoder(Line)
    found: dict[str, Place] = {}
    whole: set[str] = set()
    for path in sorted(folder.glob("*.jsonl")):
        if path.name.startswith("input-"):
            continue
        with path.open("rb") as file:
            start = 0
            for line in file:
                told = decoded(decoder, line)
                good = told.response is not None and told.response.status_code == 200
                if told.custom_id and (good or told.custom_id not in whole):
                    found[told.custom_id] = Place(path=path, start=start, size=len(line))
                if good:
                    whole.add(told.custom_id)
                start += len(line)
    return found


def decoded(decoder: msgspec.json.Decoder[Line], line: bytes) -> Line:
    """A line of an output file; one that is none, a torn last one say, answers nothing."""
    try:
        return decoder.decode(line)
    except msgspec.MsgspecError:
        return Line()


def read_line(place: Place) -> Line:
    with place.path.open("rb") as file:
        file.seek(place.start)
        return msgspec.json.decode(file.read(place.size), type=Line)


def answered(request: Request, line: Line, endpoint: Endpoint) -> Response:
    """The response. Raises Refused where the provider gave none, and as `client.understood` does."""
    if line.response is None or line.response.status_code != 200:
        told = line.error.message if line.error is not None else ""
        status = line.response.status_code if line.response is not None else "no answer"
        body = bytes(line.response.body)[:200].decode("utf-8", "replace") if line.response is not None else ""
        raise Refused(f"{status}: {told or body}")
    return response(request, understood(bytes(line.response.body), endpoint), endpoint, latency=0.0)


def fault_of(error: Exception) -> str:
    return error.message if isinstance(error, ServerError) else str(error)


def write_inputs(requests: Iterable[Request], endpoint: Endpoint, folder: Path) -> tuple[list[Path], int]:
    """The input files of what is left, and how many requests they hold. Older ones are removed."""
    written: list[Path] = []
    count = 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        for request in requests:
            count += 1
            yield input_line(request, endpoint)

    for number, part in enumerate(parts(lines()), 1):
        path = folder / f"input-{number:04d}.jsonl"
        write_pieces(path, part)
        written.append(path)
    for path in folder.glob("input-*.jsonl"):
        if path not in written:
            path.unlink()
    return written, count


def input_line(request: Request, endpoint: Endpoint) -> bytes:
    path, body = asked(request, endpoint)
    line = {"custom_id": custom_id(request), "method": "POST", "url": f"/v1{path}", "body": body}
    return msgspec.json.encode(line) + b"\n"


def parts(lines: Iterator[bytes]) -> Iterator[list[bytes]]:
    """The lines in lists that each fit into one file."""
    part: list[bytes] = []
    size = 0
    for line in lines:
        if part and (len(part) == MOST_LINES or size + len(line) > MOST_BYTES):
            yield part
            part, size = [], 0
        part.append(line)
        size += len(line)
    if part:
        yield part
