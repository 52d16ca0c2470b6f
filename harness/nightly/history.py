"""The history: one SQLite file with the counts of every night, question by question.

A night is written in one transaction when it is over, so a night that was killed leaves nothing half
counted; only that it began, which is how the next call knows it for the same night. Counts are small and
kept for ever (a year of AIME24 and GPQA-Diamond is some 5 MB); the responses themselves are not here.
"""

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from harness.errors import DataError, UsageError
from harness.files import UNREADABLE
from harness.nightly.gate import Baseline, Judged, Outcome, settled

SCHEMA = 1
WAIT = 60.0  # seconds for another process's transaction
TABLES = """
CREATE TABLE night (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL, label TEXT NOT NULL, began REAL NOT NULL,
  finished REAL, outcome TEXT, harness TEXT, UNIQUE (name, label));
CREATE TABLE result (
  id INTEGER PRIMARY KEY, night INTEGER NOT NULL REFERENCES night (id) ON DELETE CASCADE,
  checkpoint TEXT NOT NULL, benchmark TEXT NOT NULL, setting TEXT NOT NULL, complete INTEGER NOT NULL,
  outcome TEXT NOT NULL, texts TEXT NOT NULL, record TEXT NOT NULL,
  UNIQUE (night, checkpoint, benchmark));
CREATE INDEX line ON result (checkpoint, benchmark, setting);
CREATE TABLE question (
  result INTEGER NOT NULL REFERENCES result (id) ON DELETE CASCADE, question TEXT NOT NULL,
  correct INTEGER NOT NULL, draws INTEGER NOT NULL, ungraded INTEGER NOT NULL,
  truncated INTEGER NOT NULL, tokens INTEGER NOT NULL, PRIMARY KEY (result, question)) WITHOUT ROWID;
CREATE TABLE setting (digest TEXT PRIMARY KEY, content TEXT NOT NULL);
CREATE TABLE accepted (
  checkpoint TEXT NOT NULL, benchmark TEXT NOT NULL, since INTEGER NOT NULL, up_to INTEGER NOT NULL,
  at REAL NOT NULL);
"""
SOURCES = "CREATE TABLE IF NOT EXISTS source (name TEXT PRIMARY KEY, file TEXT NOT NULL)"


@dataclass(frozen=True, kw_only=True)
class Counted:
    """One question of one night: graded-right, all, and ungraded responses, truncated ones, tokens."""

    question: str
    correct: int
    draws: int
    ungraded: int
    truncated: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Flip:
    """A question whose share of right responses is not that of the last night that passed. Shares, 0 to 1;
    `before` is the mean over the history."""

    question: str
    before: float
    last: float
    tonight: float


@dataclass(frozen=True, kw_only=True)
class Result:
    """One benchmark of one checkpoint on one night.

    `setting` is the digest of how it was asked and graded, all but the model and the night; only nights of
    one setting are compared. `score` and `error` are points, the error over re-runs; None where nothing was
    graded. `versions` are the engine's and the harness's. `texts` is a digest of all responses; `replayed`
    names the night whose responses they are, where that was another. `changed` says what is not as in the
    last night that passed.
    """

    checkpoint: str
    benchmark: str
    setting: str
    mark: str
    model: str
    judged: Judged
    questions: int = 0
    draws: int = 0
    responses: int = 0
    missing: int = 0
    ungraded: int = 0
    truncated: int = 0
    tokens: int = 0
    score: float | None = None
    error: float | None = None
    published: float | None = None
    versions: dict[str, str] = field(default_factory=dict)
    texts: str = ""
    replayed: str = ""
    flips: tuple[Flip, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        return f"{self.checkpoint}/{self.benchmark}"

    @property
    def complete(self) -> bool:
        """Whether later nights may be compared with it."""
        return self.score is not None and not (self.missing or self.ungraded or self.replayed)


@dataclass(frozen=True, kw_only=True)
class Night:
    """One night. `id` counts nights in the order in which they began; `finished` is None for one that is
    under way or was killed, and then nothing of it is counted."""

    id: int
    name: str
    label: str
    began: float
    finished: float | None
    outcome: Outcome | None
    results: tuple[Result, ...] = ()


Concluded = tuple[Result, Sequence[Counted], Mapping[str, Any]]
"""A result with its counts by question, and how it was asked (of which it has the digest)."""


class History:
    """The file. Every method is one transaction; another process's is waited for."""

    def __init__(self, path: Path, wait: float = WAIT) -> None:
        """Opens the file, or makes it. Raises DataError where it is none of ours, cannot be made, or is held
        by another process for longer than `wait` seconds."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(path, timeout=wait, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise DataError(
                f"{path} cannot be opened as a history: {error}",
                "Make it a place where a file can be written, or give another [history] path.",
            ) from error
        try:
            self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA foreign_keys = ON")
            self.prepare()
        except sqlite3.Error as error:
            self.connection.close()
            raise self.unreadable(error) from error

    def unreadable(self, error: sqlite3.Error) -> DataError:
        """What to tell of a file that SQLite cannot use: it may only be busy."""
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            return DataError(
                f"another process holds {self.path}", "Nothing is wrong with it: run the same command again."
            )
        return DataError(
            f"{self.path} cannot be read as a history: {error}", "Restore it, or move it away to begin anew."
        )

    def prepare(self) -> None:
        with self.transaction():
            self.connection.execute(SOURCES)
            (version,) = self.connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in TABLES.split(";\n"):
                    self.connection.execute(statement)
                self.connection.execute(f"PRAGMA user_version = {SCHEMA}")
            elif version != SCHEMA:
                raise DataError(
                    f"{self.path} has schema {version}, this version of the harness knows {SCHEMA}",
                    "Use the version that wrote it, or another [history] path.",
                )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        try:
            self.connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise self.unreadable(error) from error
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def close(self) -> None:
        self.connection.close()

    # Nights ---------------------------------------------------------------------------------

    def claim(self, name: str, file: Path) -> None:
        """Notes which configuration the nights of a name are from, relative to the history: both may move.

        Raises UsageError where another one, which is still there, has that name.
        """
        home = self.path.parent.resolve()
        own = os.path.relpath(file.resolve(), home)
        with self.transaction():
            row = self.connection.execute("SELECT file FROM source WHERE name = ?", (name,)).fetchone()
            if row and row[0] != own and (home / row[0]).is_file():
                raise UsageError(
                    f"the nights of {name!r} are those of another file: {(home / row[0]).resolve()}",
                    f'Give {file} a name = "…" of its own.',
                )
            self.connection.execute("INSERT OR REPLACE INTO source VALUES (?, ?)", (name, own))

    def begin(self, name: str, label: str) -> Night:
        """The night of this label, which from now on has begun."""
        with self.transaction():
            self.connection.execute(
                "INSERT OR IGNORE INTO night (name, label, began) VALUES (?, ?, ?)",
                (name, label, time.time()),
            )
        found = self.night(name, label)
        assert found is not None
        return found

    def record(
        self,
        night: Night,
        outcome: Outcome,
        harness: str,
        results: Sequence[Concluded],
    ) -> None:
        """Ends a night: its results, with their counts and settings, in place of earlier ones of the same
        lines. Those of other lines stay."""
        with self.transaction():
            self.connection.executemany(
                "DELETE FROM result WHERE night = ? AND checkpoint = ? AND benchmark = ?",
                [(night.id, result.checkpoint, result.benchmark) for result, _, _ in results],
            )
            for result, counted, setting in results:
                self.connection.execute(
                    "INSERT OR IGNORE INTO setting VALUES (?, ?)",
                    (result.setting, msgspec.json.encode(setting, order="sorted").decode()),
                )
                self.add(night, result, counted)
            self.connection.execute(
                "UPDATE night SET finished = ?, outcome = ?, harness = ? WHERE id = ?",
                (time.time(), outcome, harness, night.id),
            )

    def add(self, night: Night, result: Result, counted: Sequence[Counted]) -> None:
        row = self.connection.execute(
            "INSERT INTO result (night, checkpoint, benchmark, setting, complete, outcome, texts, record) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                night.id,
                result.checkpoint,
                result.benchmark,
                result.setting,
                result.complete,
                result.judged.outcome,
                result.texts,
                msgspec.json.encode(result).decode(),
            ),
        )
        self.connection.executemany(
            "INSERT INTO question VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (row.lastrowid, one.question, one.correct, one.draws, one.ungraded, one.truncated, one.tokens)
                for one in counted
            ],
        )

    def night(self, name: str, label: str) -> Night | None:
        return next(self.select("WHERE name = ? AND label = ?", (name, label)), None)

    def nights(self, name: str) -> list[Night]:
        """All nights of a name, in the order in which they began."""
        return list(self.select("WHERE name = ? ORDER BY id", (name,)))

    def select(self, condition: str, values: tuple[Any, ...]) -> Iterator[Night]:
        query = f"SELECT id, name, label, began, finished, outcome FROM night {condition}"  # noqa: S608
        for row in self.connection.execute(query, values).fetchall():
            id_, name, label, began, finished, outcome = row
            yield Night(
                id=id_,
                name=name,
                label=label,
                began=began,
                finished=finished,
                outcome=outcome,
                results=tuple(self.results(id_)) if finished is not None else (),
            )

    def results(self, night: int) -> Iterator[Result]:
        rows = self.connection.execute("SELECT record FROM result WHERE night = ? ORDER BY id", (night,))
        for (record,) in rows.fetchall():
            try:
                yield msgspec.json.decode(record, type=Result)
            except UNREADABLE as error:
                raise DataError(f"{self.path}: a result of night {night} cannot be read: {error}") from error

    def counted(self, night: int, checkpoint: str, benchmark: str) -> list[Counted]:
        """The counts of one result, by question."""
        rows = self.connection.execute(
            "SELECT question, correct, question.draws, ungraded, truncated, tokens FROM question "
            "JOIN result ON result.id = question.result "
            "WHERE night = ? AND checkpoint = ? AND benchmark = ? ORDER BY question",
            (night, checkpoint, benchmark),
        )
        names = ("question", "correct", "draws", "ungraded", "truncated", "tokens")
        return [Counted(**dict(zip(names, row, strict=True))) for row in rows.fetchall()]

    # What tonight is compared with -----------------------------------------------------------

    def baseline_nights(self, before: int, result: Result, most: int | None) -> list[int]:
        """The nights that a result is compared with, oldest first: complete ones of its setting that began
        earlier and since the last accepted change, without regressions; at most the last `most`, but for
        the latest (`settled`)."""
        since, up_to = self.accepted_since(before, result.checkpoint, result.benchmark)
        rows = self.connection.execute(
            "SELECT night FROM result JOIN night ON night.id = night "
            "WHERE checkpoint = ? AND benchmark = ? AND setting = ? AND complete AND finished IS NOT NULL "
            "AND night < ? AND night >= ? AND (result.outcome != 'regression' OR night <= ?) ORDER BY night",
            (result.checkpoint, result.benchmark, result.setting, before, since, up_to),
        )
        nights = [night for (night,) in rows.fetchall()]
        return list(settled(nights[-most:] if most else nights))

    def accepted_since(self, before: int, checkpoint: str, benchmark: str) -> tuple[int, int]:
        """The first night of the level that was last accepted, and the last of those that were accepted."""
        row = self.connection.execute(
            "SELECT since, up_to FROM accepted WHERE checkpoint = ? AND benchmark = ? AND up_to < ? "
            "ORDER BY rowid DESC LIMIT 1",  # not by the clock, which may have gone back
            (checkpoint, benchmark, before),
        ).fetchone()
        return (row[0], row[1]) if row else (0, 0)

    def baseline(self, nights: Sequence[int], result: Result, questions: Sequence[str]) -> Baseline:
        """Those nights' counts, summed by question in the order given, and their scores."""
        totals: dict[str, int] = dict.fromkeys(questions, 0)
        scores = []
        for night in nights:
            counted = self.counted(night, result.checkpoint, result.benchmark)
            for one in counted:
                totals[one.question] += one.correct
            scores.append(100 * sum(one.correct for one in counted) / sum(one.draws for one in counted))
        return Baseline(right=np.array(list(totals.values()), dtype=np.float64), scores=np.array(scores))

    def last_good(self, before: int, result: Result) -> tuple[int, Result] | None:
        """The last complete night of the same setting that passed, or the last that did not regress where
        none did; None where there is none."""
        row = self.connection.execute(
            "SELECT night, record FROM result WHERE checkpoint = ? AND benchmark = ? AND setting = ? "
            "AND complete AND outcome != 'regression' AND night < ? "
            "ORDER BY outcome = 'pass' DESC, night DESC LIMIT 1",
            (result.checkpoint, result.benchmark, result.setting, before),
        ).fetchone()
        return (row[0], msgspec.json.decode(row[1], type=Result)) if row else None

    def same_texts(self, before: int, result: Result) -> str:
        """The label of the first earlier night of a line whose responses are these, or nothing."""
        row = self.connection.execute(
            "SELECT label FROM result JOIN night ON night.id = night "
            "WHERE checkpoint = ? AND benchmark = ? AND setting = ? AND texts = ? AND night < ? "
            "ORDER BY night LIMIT 1",
            (result.checkpoint, result.benchmark, result.setting, result.texts, before),
        ).fetchone()
        return row[0] if row else ""

    def last_setting(self, before: int, result: Result) -> str | None:
        """The digest of the setting of the last complete night of a line; None where there is none."""
        row = self.connection.execute(
            "SELECT setting FROM result WHERE checkpoint = ? AND benchmark = ? AND complete AND night < ? "
            "ORDER BY night DESC LIMIT 1",
            (result.checkpoint, result.benchmark, before),
        ).fetchone()
        return row[0] if row else None

    def accept(self, checkpoint: str, benchmark: str, since: int, up_to: int) -> None:
        """From now on the level of the nights from `since` is what later ones are compared with."""
        with self.transaction():
            self.connection.execute(
                "INSERT INTO accepted VALUES (?, ?, ?, ?, ?)",
                (checkpoint, benchmark, since, up_to, time.time()),
            )

    def setting(self, digest: str) -> Mapping[str, Any]:
        """How the nights of a setting were asked; empty for one that never was."""
        row = self.connection.execute("SELECT content FROM setting WHERE digest = ?", (digest,)).fetchone()
        found: Mapping[str, Any] = msgspec.json.decode(row[0]) if row else {}
        return found
