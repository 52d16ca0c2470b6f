"""Asking by batch files: what is to be asked is written, what was answered is read.

    batch/input-0001.jsonl     requests that no answer is there for yet; never changed once it is written
    batch/output-….jsonl       answers, under any name that does not begin with "input-"
    batch/collected.json       which files of answers the input files take into account

An input file waits until a new file answers one of its requests; what is then left of it goes into another
input file. So whoever works on one is never outrun by a second file with the same requests.

The format is OpenAI's: a line is `{"custom_id", "method", "url", "body"}`, and an answer's
`{"custom_id", "response": {"status_code", "body"}, "error"}` (platform.openai.com/docs/guides/batch);
vLLM's `run_batch` reads and writes it too. Answers become the very rows that the server's would.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import msgspec

from harness.answering import Response, response
from harness.asking import Request, asked
from harness.batch_api import BatchApi
from harness.client import Flawed, Refused, Unsound, accepted, excerpt
from harness.completion import GAVE_UP, Completion
from harness.endpoint import Endpoint
from harness.engines import OPENAI_PARAMETERS
from harness.engines.batch import batch
from harness.engines.remote import without_login
from harness.errors import HarnessError, ServerError
from harness.eventloop import run
from harness.files import UNREADABLE, write_json, write_pieces
from harness.generate import SILENT, Progress, no_sound_answer
from harness.machine import Machine
from harness.patience import Transient
from harness.rows import RowFile
from harness.serve import is_neutral
from harness.session import SESSION, check_session
from harness.soundness import ATTEMPTS, doubt, flaw, own_limit
from harness.types import Sampling

Say = Callable[[str], None]

FOLDER = "batch"
COLLECTED = "collected.json"
ASK_ANEW = (
    "every other answer is kept, and such answers are no rows; nothing is asked again while they stand in "
    "batch/: look at the provider, remove the output-….jsonl that hold them, and run the same command again"
)
NUMBERED = re.compile(r"input-(\d+)\.jsonl")
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
    message: str


class Line(msgspec.Struct):
    custom_id: str = ""
    response: Answer | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")
    """OpenAI's is a Fault; others have shapes of their own."""


LINE = msgspec.json.Decoder(Line)
COMPLETION = msgspec.json.Decoder(Completion)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a line of an output file stands."""

    path: Path
    start: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the files of answers hold: where each stands, and `earlier` completions of the same request; the
    ids in `fresh` files, which no earlier look took into account; and each file's name and digest."""

    places: dict[str, Place]
    earlier: dict[str, list[Place]]
    fresh: frozenset[str]
    files: list[str]

    def of(self, custom_id: str) -> list[Place]:
        """Where the answers to one request stand, the one that counts last."""
        last = self.places.get(custom_id)
        return [] if last is None else [*self.earlier.get(custom_id, ()), last]


@dataclass(frozen=True, kw_only=True)
class Posed:
    """A request as a line of an input file, and its id there."""

    custom_id: str
    line: bytes


@dataclass
class Collected:
    """What a look at the output files brought: rows, what was refused and why, the requests that no answer of
    enough is sound for, the provider's own limit, the input files that are left with the number of their
    requests, and how many answers nobody asked for."""

    rows: int = 0
    unsound: list[tuple[Request, Unsound]] = field(default_factory=list)
    limit: str = ""
    faults: Counter[str] = field(default_factory=Counter)
    left: list[Path] = field(default_factory=list)
    missing: int = 0
    foreign: int = 0


def ask_by_files(
    requests: Iterable[Request],
    endpoint: Endpoint,
    rows: Path,
    *,
    progress: Progress = SILENT,
    say: Callable[[str], None] = lambda text: None,
) -> Collected:
    """Turns the answers that are there into rows, and writes the requests that are left to input files.

    An answer that is no completion is told of and asked for again. Input files that nobody has answered yet
    stay as they are. Raises ServerError where an answer is of another model, and where rows of another
    engine are there.
    """
    folder = rows.parent / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    found = Collected()
    with RowFile(rows) as file:
        check_session(rows.parent / SESSION, endpoint.fingerprint, has_rows=bool(file.keys))
        there = answers(folder)
        waiting, needed, foreign = waiting_for(folder, there.fresh), set[Path](), set(there.fresh)

        def unasked() -> Iterator[bytes]:
            for request in requests:
                posed = pose(request, endpoint)
                foreign.discard(posed.custom_id)
                if not file.claim(request.key):
                    continue
                path, held = waiting.get(posed.custom_id), there.of(posed.custom_id)
                try:
                    row = collect(request, held, endpoint, found, told=path is not None)
                except Unsound as error:
                    found.unsound.append((request, error))
                    continue
                if row is not None:
                    file.append([row])
                    progress.advance(rows=1, tokens=row.row.completion_tokens)
                    continue
                found.missing += 1
                if path is not None:
                    needed.add(path)
                else:
                    yield posed.line

        found.left = sorted([*write_inputs(unasked(), folder), *needed])
    found.foreign = len(foreign)
    remove_inputs(folder, but=found.left)
    write_json(folder / COLLECTED, there.files)
    tell(found, say)
    return found


def collect(
    request: Request, places: list[Place], endpoint: Endpoint, found: Collected, *, told: bool
) -> Response | None:
    """The response that stands at the last of the places, counted in `found`; None where there is none. A
    fault that was told is not counted again. Raises Unsound where none of ATTEMPTS answers can be."""
    if not places:
        return None
    *earlier, last = lines_at(places)
    try:
        row = answered(request, last, endpoint, earlier)
    except (Refused, Transient) as fault:
        if isinstance(fault, Flawed) and not told and len(earlier) + 1 >= ATTEMPTS:
            raise Unsound(str(fault), ASK_ANEW) from fault
        found.faults[fault_of(fault)] += not told
        return None
    found.rows += 1
    if row.row.truncated and row.row.completion_tokens < request.sampling.max_tokens:
        found.limit = own_limit(row.row.completion_tokens, request.sampling.max_tokens)
    return row


def lines_at(places: list[Place]) -> list[Line]:
    """The lines at these places, each answer once: a copy of a file holds no second one."""
    lines = [read_line(place) for place in places]
    return list({bytes(line.response.body) if line.response else b"": line for line in lines}.values())


def tell(found: Collected, say: Say) -> None:
    for reason, count in found.faults.most_common(5):
        if count:
            say(f"{count} of the answers are none, and are asked for again: {reason}")
    if found.limit:
        say(found.limit)
    if found.foreign:
        say(
            f"{found.foreign:,} answers were ignored: they are to requests of another run (another model or "
            "sampling, say), or to such as were answered before"
        )


def ask_in_batches(
    requests: Iterable[Request],
    endpoint: Endpoint,
    rows: Path,
    machine: Machine,
    progress: Progress,
    say: Say,
) -> None:
    """Asks for every request that `rows` does not hold yet, by files; where machine.toml names the
    provider's URL, through its API. Raises BatchPending while answers are missing, and Unsound where none
    are but such as cannot be.

    Holds all requests in memory, which are looked through once a round; no answers.
    """
    settings = machine.engine(batch.name)
    held = list(requests)
    for _ in range(ROUNDS):
        found = ask_by_files(held, endpoint, rows, progress=progress, say=say)
        if not found.left:
            break
        if not settings.base_url:
            break
        key = os.environ.get(settings.api_key_env, "")
        api = BatchApi(without_login(settings.base_url, batch.name), key, machine.batch_poll)
        run(submitted(api, found.left, say))
    else:
        found = ask_by_files(held, endpoint, rows, progress=progress, say=say)
    if found.left:
        raise pending(found, rows.parent)
    if found.unsound:
        raise no_sound_answer(found.unsound)


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


def pose(request: Request, endpoint: Endpoint) -> Posed:
    """The line of an input file. Its id is a name that any provider takes, 32 hexadecimal digits of a hash
    of question, draw and all that is sent: an answer to anything else has another."""
    path, body = asked(request, endpoint)
    url = f"/v1{path}"
    hashed = msgspec.json.encode((*request.key, url, body), order="sorted")
    custom_id = hashlib.sha256(hashed).hexdigest()[:32]
    line = {"custom_id": custom_id, "method": "POST", "url": url, "body": body}
    return Posed(custom_id=custom_id, line=msgspec.json.encode(line) + b"\n")


# What was answered --------------------------------------------------------------------------


def answers(folder: Path) -> Answers:
    """Where each answer stands; of several the last that is a completion, or the last."""
    before = taken_into_account(folder / COLLECTED)
    places: dict[str, Place] = {}
    earlier: dict[str, list[Place]] = {}
    whole: set[str] = set()
    fresh: set[str] = set()
    files = []
    for path in sorted(folder.glob("*.jsonl")):
        if path.name.startswith("input-"):
            continue
        digest, ids = hashlib.sha256(), set[str]()
        for place, line in lines_of(path):
            digest.update(line)
            told = decoded(line)
            good = completion_of(told) is not None
            if told.custom_id and (good or told.custom_id not in whole):
                if told.custom_id in whole:
                    earlier.setdefault(told.custom_id, []).append(places[told.custom_id])
                places[told.custom_id] = place
            if good:
                whole.add(told.custom_id)
            ids.add(told.custom_id)
        files.append(f"{path.name} {digest.hexdigest()}")
        fresh |= ids if files[-1] not in before else set()
    return Answers(places=places, earlier=earlier, fresh=frozenset(fresh - {""}), files=files)


def taken_into_account(record: Path) -> frozenset[str]:
    """The files of answers that an earlier look saw. Where that cannot be read, all of them are new."""
    try:
        return frozenset(msgspec.json.decode(record.read_bytes(), type=list[str]))
    except (FileNotFoundError, *UNREADABLE):
        return frozenset()


def lines_of(path: Path) -> Iterator[tuple[Place, bytes]]:
    with path.open("rb") as file:
        start = 0
        for line in file:
            yield Place(path=path, start=start, size=len(line)), line
            start += len(line)


def decoded(line: bytes) -> Line:
    """A line of a file; one that is none, a torn last one say, has no id and answers nothing."""
    try:
        return LINE.decode(line)
    except UNREADABLE:
        return Line()


def completion_of(line: Line) -> Completion | None:
    """The completion that a line holds, whoever it is of; None where that is none, or was given up."""
    if line.response is None or line.response.status_code != 200:
        return None
    try:
        completion = COMPLETION.decode(line.response.body)
    except UNREADABLE:
        return None
    given_up = not completion.choices or completion.choices[0].finish_reason in GAVE_UP
    return None if given_up else completion


def read_line(place: Place) -> Line:
    with place.path.open("rb") as file:
        file.seek(place.start)
        return decoded(file.read(place.size))


def answered(request: Request, line: Line, endpoint: Endpoint, earlier: Iterable[Line] = ()) -> Response:
    """The response. Raises Refused where the provider gave none, Flawed where it cannot be, or may not be and
    no earlier one was like it; ServerError where it is of another model."""
    completion = completion_of(line)
    if completion is None:
        raise Refused(refusal(line))
    accepted(completion, endpoint)
    if found := flaw(completion, request, endpoint):
        raise Flawed(found)
    found = doubt(completion, request, endpoint)
    before = (completion_of(each) for each in earlier)
    if found and found not in [doubt(each, request, endpoint) for each in before if each is not None]:
        raise Flawed(found)
    return response(request, completion, endpoint, latency=0.0)


def refusal(line: Line) -> str:
    """Why a line answers nothing, in the provider's words."""
    told = "" if bytes(line.error) == b"null" else fault_in(line.error)
    if line.response is None:
        return f"no answer: {told}"
    body = told or excerpt(bytes(line.response.body))
    return f"{'no completion' if line.response.status_code == 200 else line.response.status_code}: {body}"


def fault_in(error: msgspec.Raw) -> str:
    try:
        return msgspec.json.decode(error, type=Fault).message
    except UNREADABLE:
        return excerpt(bytes(error))


def fault_of(error: Exception) -> str:
    return error.message if isinstance(error, ServerError) else str(error)


# What is left to ask ------------------------------------------------------------------------


def waiting_for(folder: Path, fresh: frozenset[str]) -> dict[str, Path]:
    """The input file of each request that stands in one which no fresh file of answers is about."""
    waiting: dict[str, Path] = {}
    for path in sorted(folder.glob("input-*.jsonl")):
        ids = {decoded(line).custom_id for _, line in lines_of(path)}
        if not ids & fresh:
            waiting |= dict.fromkeys(ids - waiting.keys(), path)
    return waiting


def write_inputs(lines: Iterator[bytes], folder: Path) -> list[Path]:
    """Writes the lines to new input files, each as long as it may be; holds one line at a time."""
    there = (NUMBERED.fullmatch(path.name) for path in folder.glob("input-*.jsonl"))
    number = max((int(named[1]) for named in there if named), default=0)
    written: list[Path] = []
    following = next(lines, None)

    def part() -> Iterator[bytes]:
        nonlocal following
        count = size = 0
        while following is not None:
            count, size = count + 1, size + len(following)
            if count > 1 and (count > MOST_LINES or size > MOST_BYTES):
                return
            yield following
            following = next(lines, None)

    while following is not None:
        written.append(folder / f"input-{number + len(written) + 1:04d}.jsonl")
        write_pieces(written[-1], part())
    return written


def remove_inputs(folder: Path, but: list[Path]) -> None:
    for path in set(folder.glob("input-*.jsonl")) - set(but):
        path.unlink()
