"""Draws and verdicts that another stage of the same store holds already: neither is made twice.

Two Asks that differ in the number of draws alone send the same requests, as far as the shorter goes: a
draw's seed depends on nothing but the question and the draw. So whoever asks for 64 draws begins with
the 8 that are there, and a run that is drawn in rounds asks for each draw once.
"""

import copy
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness.asking import PROMPT
from harness.batch import batch_endpoint
from harness.engines.batch import batch
from harness.errors import DataError
from harness.integrity import MANIFEST, Say, check_files, of_a_report, quiet, told_identity
from harness.rows import drop_torn_line, key_of, keys_of, read_rows, read_wanted
from harness.session import SESSION, written_by
from harness.stage import Json
from harness.types import Generation, Grade

if TYPE_CHECKING:
    from harness.evaluate import Ask, Mark
    from harness.store import Context

ROWS = "generations.jsonl"
Key = tuple[str, int]
Known = Mapping[Key, tuple[bytes, Grade]]


def but_for_draws(identity: Mapping[str, Json]) -> Json:
    """What an Ask is, the number of draws left out."""
    rest = copy.deepcopy(dict(identity))
    for sampling in (rest["benchmark"]["sampling"], rest["sampling"]):
        if sampling is not None:
            del sampling["draws"]
    return rest


def draws_of(identity: Mapping[str, Json]) -> int:
    return int((identity["sampling"] or identity["benchmark"]["sampling"])["draws"])


def asked_otherwise_often(ask: "Ask", stages: Path) -> list[Path]:
    """The directories of Asks that differ from this one in their draws alone, most draws first."""
    wanted, found = but_for_draws(ask.identity), []
    for file in sorted(stages.glob(f"{ask.kind}-*/identity.json")):
        told = told_identity(file.parent)
        if told is not None and file.parent.name != ask.key and but_for_draws(told) == wanted:
            found.append((draws_of(told), file.parent))
    return [path for _, path in sorted(found, reverse=True)]


# Draws --------------------------------------------------------------------------------------


def adopt_draws(ask: "Ask", questions: list[str], out: Path, context: "Context") -> int:
    """Copies the rows that `out` lacks from other Asks of the same store. Returns their number.

    Only rows of the engine that is going to write the others; where nothing is left to ask, those of any
    one engine, as of a stage that is complete. May be interrupted and called again.
    """
    wanted = {(question, draw) for question in questions for draw in range(ask.drawn.draws)}
    adopted = 0
    for source in asked_otherwise_often(ask, out.parent):
        own = keys_of(out / ROWS)
        if wanted <= own:
            break
        missing, told = (wanted - own) & keys_of(source / ROWS), session_of(source)
        if not missing or told is None or (own and session_of(out) != told):
            continue
        if missing != wanted - own and told != fingerprint_of(ask, context):
            continue
        if not own:
            (out / SESSION).write_bytes((source / SESSION).read_bytes())
        adopt_prompt(source, out)
        adopted += copy_rows(ask, source / ROWS, out / ROWS, missing)
        context.progress.say(f"  {len(missing):,} responses are there already, in {source.name}")
    return adopted


def adopt_prompt(source: Path, out: Path) -> None:
    """Copies how the first draw was put: it is the same of any number of draws. Who asks for more writes its
    own."""
    if (source / PROMPT).exists() and not (out / PROMPT).exists():
        (out / PROMPT).write_bytes((source / PROMPT).read_bytes())


def fingerprint_of(ask: "Ask", context: "Context") -> dict[str, str]:
    """Of the engine that is going to write the rows. Its server is started, where one is."""
    service = ask.service()
    if service.engine == batch.name:
        return batch_endpoint(context.served_name(service), ask.drawn, context.machine).fingerprint
    return context.endpoint(service).fingerprint


def copy_rows(ask: "Ask", source: Path, target: Path, keys: set[Key]) -> int:
    """Appends the rows with these keys; their `sampling` is from now on that of `ask`."""
    target.touch()
    drop_torn_line(target)
    with target.open("ab") as lines:
        for row in read_wanted(source, Generation, keys.__contains__):
            lines.write(msgspec.json.encode(replace(row, sampling=ask.drawn)) + b"\n")
    return len(keys)


def session_of(path: Path) -> dict[str, str] | None:
    """Which engine wrote the rows of a directory; None where nobody can say."""
    try:
        return written_by(path / SESSION)
    except DataError:
        return None


# Verdicts -----------------------------------------------------------------------------------


def known_verdicts(mark: "Mark", stages: Path, say: Say = quiet) -> Known:
    """The verdicts of the same grader, with the same settings, on draws of such other Asks.

    Each with the digest of what it is about: a draw that was asked again is graded again. Verdicts that are
    not what was written are left, and said so: whoever has none grades.
    """
    known: dict[Key, tuple[bytes, Grade]] = {}
    for source in asked_otherwise_often(mark.asked, stages):
        for graded in graded_alike(mark, source.name, stages, say):
            grades = {key_of(one): one for one in read_rows(graded, Grade) if one.correct is not None}
            new = grades.keys() - known.keys()
            if new and (about := told_about(graded)) is not None:
                known |= {key: (about[key], grades[key]) for key in new & about.keys()}
            elif new:
                rows = read_wanted(source / ROWS, Generation, new.__contains__)
                known |= {key_of(row): (digest(row), grades[key_of(row)]) for row in rows}
    return known


def graded_alike(mark: "Mark", asked: str, stages: Path, say: Say) -> Iterator[Path]:
    """The files of grades that Marks like this one wrote of another Ask, but for damaged ones."""
    wanted = {**mark.identity, "asked": asked}
    for file in sorted(stages.glob(f"{mark.kind}-*/identity.json")):
        grades = file.with_name("grades.jsonl")
        if told_identity(file.parent) == wanted and grades.exists():
            try:
                if (file.parent / MANIFEST).exists():
                    check_files(file.parent, of_a_report)
            except DataError as error:
                say(f"  its verdicts are not taken over: {error.message}")
                continue
            yield grades


def digest(row: Generation) -> bytes:
    """Of all that a grader sees of a response."""
    seen = msgspec.json.encode((row.text, row.reasoning, row.answer, row.finish_reason, row.kept))
    return hashlib.blake2b(seen, digest_size=16).digest()


class About(msgspec.Struct, frozen=True, array_like=True):
    """A verdict's key, and the digest of the response that it is about (in base64)."""

    question: str
    draw: int
    digest: bytes


def about_file(grades: Path) -> Path:
    """`grades.jsonl.about`: what the verdicts of a Mark are about, for as long as it is not complete."""
    return grades.with_name(f"{grades.name}.about")


def about_line(key: Key, about: bytes) -> bytes:
    return msgspec.json.encode(About(*key, about)) + b"\n"


def told_about(grades: Path) -> dict[Key, bytes] | None:
    """The digest of the response that each verdict is about; None where there is no such file.

    Of two with one key the later counts. A verdict of which nothing is told may be about anything.
    """
    file = about_file(grades)
    if not file.exists():
        return None
    return {key_of(one): one.digest for one in read_rows(file, About)}


def known_verdict(known: Known, row: Generation) -> Grade | None:
    """The verdict on just this response, where there is one."""
    about, grade = known.get(key_of(row), (b"", None))
    return grade if grade is not None and about == digest(row) else None
