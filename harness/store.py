"""RunStore: builds each stage once per identity and never again.

    runs/stages/sft-4f2a9c1b/   one stage's files; stage.json written last: there means complete
    runs/dasd-micro/            links with human names into stages/

A directory without stage.json is partial: the next build continues it. Two processes that want the
same stage wait for each other. stage.json tells each file's hash, and what is read of a finished stage is
compared with it (`harness/integrity.py`).
"""

import errno
import json
import os
import pwd
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from filelock import FileLock, Timeout

from harness.company import Abandoned, Floor, Growth
from harness.discover import find_engine
from harness.endpoint import Endpoint
from harness.engines import Engine
from harness.errors import DataError, HarnessError, StageError
from harness.files import read_json, write_json
from harness.graders import Graders, LocalGraders
from harness.hub import Served
from harness.integrity import (
    IDENTITY,
    MANIFEST,
    Say,
    Wish,
    check_files,
    of_a_report,
    of_an_input,
    quiet,
    read_manifest,
    sealed_files,
    with_check,
)
from harness.machine import Machine
from harness.preflight import Preflights
from harness.progress import Progress
from harness.rows import Wanted, count_rows, follow_rows
from harness.sandboxes import Sandbox
from harness.serve import ServerPool, fixed_sampling
from harness.stage import Service, Stage, ordered
from harness.types import Sampling
from harness.workplace import workplace

Row = TypeVar("Row")
State = Literal["done", "partial", "missing"]
LABELS = "labels.json"
CHECKED_AGAIN = 0.5
"""Seconds after which who waits for another process looks whether everything was told to stop."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
UNWRITABLE = (*NO_ROOM, *FORBIDDEN, errno.ENOTDIR, errno.EEXIST)


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One line of a plan. `changed` names the fields that differ from the last run of this label."""

    label: str
    stage: Stage
    state: State
    rows: int
    changed: tuple[str, ...]


class Context:
    """What a running stage may use: the machine, finished inputs, one model server, a sandbox.

    Stages that work at the same time share it: `floor` says who is at work.
    """

    def __init__(self, store: "RunStore", machine: Machine, progress: Progress, pool: ServerPool) -> None:
        self.machine = machine
        self.progress = progress
        self._store = store
        self._pool = pool
        self.floor = Floor()
        self.preflights = Preflights()
        self._growing: dict[str, Growth] = {}
        self._opening, self._hiring = threading.Lock(), threading.Lock()
        self._sandbox: Sandbox | None = None
        self._graders: Graders | None = None

    def path(self, stage: Stage) -> Path:
        """The directory of a finished input.

        Raises StageError where it is not complete, and DataError where it is not what was written.
        """
        path = self._store.path(stage)
        if self._store.state(stage) != "done":
            raise StageError(f"{stage.key} is not complete", f"It should stand in {path}.")
        return self._store.whole(stage, of_an_input, self.progress.say)

    @contextmanager
    def growing(self, stage: Stage) -> Iterator[None]:
        """Around the building of a stage: its rows can be followed from here on."""
        self._growing[stage.key] = growth = Growth()
        with growth.watched():
            yield

    def can_follow(self, stage: Stage) -> bool:
        """Whether a stage is complete or being built."""
        return stage.key in self._growing or self._store.state(stage) == "done"

    def follow(
        self, stage: Stage, file: str, kind: type[Row], wanted: Wanted | None = None
    ) -> Iterator[Row | None]:
        """The rows of an input, from the first to the last, while they are being written or afterwards.

        None says that there is nothing new at the moment. Raises StageError where the input is neither
        complete nor being built, and Abandoned where it fails or everything is told to stop.
        """
        growth = self._growing.get(stage.key)
        if growth is None:
            self.path(stage)
            growth = Growth()
            growth.ended.set()
        for row in follow_rows(self._store.path(stage) / file, kind, growth.ended, wanted):
            self.floor.check()
            yield row
        if growth.failed:
            raise Abandoned(f"{stage.key} was not completed")

    def endpoint(self, service: Service) -> Endpoint:
        """A ready server for the checkpoint; started, or kept warm from an earlier stage."""
        return self._pool.acquire(*self._wanted(service))

    def prefetch(self, service: Service) -> None:
        """Starts a server that will be asked for later, without waiting."""
        self._pool.prefetch(*self._wanted(service))

    def free_gpus(self) -> None:
        """Stops the server that is kept warm, where it holds GPUs."""
        self._pool.free_gpus()

    def served_name(self, service: Service) -> str:
        """What the model is called where it is served."""
        return service.model.name if isinstance(service.model, Served) else service.model.key

    def _wanted(self, service: Service) -> tuple[Engine, Path, str, Sampling, Path]:
        model, name = self.path(service.model) / "model", self.served_name(service)
        log = self._store.root / "logs" / f"{service.model.key}-{service.engine}.log"
        return find_engine(service.engine), model, name, service.sampling, log

    def sandbox(self) -> Sandbox:
        """The sandbox of this machine, opened at first use. Raises SandboxError where none runs."""
        from harness.sandboxes import open_sandbox

        with self._opening:
            if self._sandbox is None:
                self._sandbox = open_sandbox(self.machine, self.progress.say)
            return self._sandbox

    def graders(self) -> Graders:
        """Those who grade, for all stages that do."""
        with self._hiring:
            if self._graders is None:
                self._graders = self._new_graders()
            return self._graders

    def _new_graders(self) -> Graders:
        """On the nodes of the cluster where machine.toml says so, else threads of this process."""
        if self.machine.cluster.address and self.machine.cluster.grading_workers:
            from harness.cluster import ClusterGraders

            return ClusterGraders(self.machine, self.progress.say)
        return LocalGraders(self.machine.sandbox.workers, self.sandbox)

    def close(self) -> None:
        if self._graders is not None:
            self._graders.shutdown()
        if self._sandbox is not None:
            self._sandbox.close()


class RunStore:
    """The stages under one `runs` folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stages = root / "stages"
        self._whole = set[tuple[str, Wish]]()

    def path(self, stage: Stage) -> Path:
        return self.stages / stage.key

    def state(self, stage: Stage) -> State:
        path = self.path(stage)
        if (path / MANIFEST).exists():
            return "done"
        return "partial" if path.exists() else "missing"

    def whole(self, stage: Stage, wanted: Wish = of_a_report, say: Say = quiet) -> Path:
        """The directory of a stage; where it is finished, the wanted files are those that were written.

        Raises DataError where one is not. They are looked at once.
        """
        if self.state(stage) == "done" and (stage.key, wanted) not in self._whole:
            check_files(self.path(stage), wanted, say)
            self._whole.add((stage.key, wanted))
        return self.path(stage)

    def manifest(self, stage: Stage) -> dict[str, Any]:
        """What stage.json of a finished stage says. Raises DataError where it is damaged."""
        return read_manifest(self.path(stage))

    def build(self, stage: Stage, context: Context) -> Path:
        """Runs the stage where it is not complete. Its inputs must be, but for one that it follows.

        Raises HarnessError as the stage does, and where the runs folder cannot be written.
        """
        path = self.path(stage)
        if self.state(stage) == "done":
            return path
        with writable(self.root), self.locked(stage, context.progress.say, context.floor.check):
            if self.state(stage) == "done":
                return path
            path.mkdir(parents=True, exist_ok=True)
            resumed = begun(path)
            write_json(path / IDENTITY, stage.identity)
            where, started = workplace(context.machine), time.monotonic()
            stage.run(path, context)
            manifest = {
                "key": stage.key,
                "identity": stage.identity,
                "inputs": [read.key for read in stage.inputs],
                "seconds": round(time.monotonic() - started, 3),
                "rows": row_count(path),
                "resumed": resumed,
                "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "workplace": where,
                "files": sealed_files(path, context.progress.say),
            }
            write_json(path / MANIFEST, with_check(manifest))
        return path

    @contextmanager
    def locked(self, stage: Stage, say: Say, check: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Holds the stage's lock; the kernel releases it when a process dies.

        While another process holds it, `check` is called now and then, and may raise to end the wait. Raises
        DataError where a link stands in the lock's place: taking a lock empties its file.
        """
        locks = self.stages / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        if (locks / stage.key).is_symlink():
            raise DataError(f"{locks / stage.key} is a link, and a lock is none", "Remove it and run again.")
        lock = FileLock(locks / stage.key)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"{stage.key}: another process is building it; waiting")
            while not acquired(lock):
                check()
        try:
            yield
        finally:
            lock.release()

    def plan(self, name: str, labels: dict[str, Stage]) -> list[Planned]:
        """Each labelled stage's state, and what changed since the run that `name` links to."""
        return [
            Planned(
                label=label,
                stage=stage,
                state=self.state(stage),
                rows=self.rows(stage),
                changed=tuple(self.changes(name, label, stage)),
            )
            for label, stage in labels.items()
        ]

    def rows(self, stage: Stage) -> int:
        """The number of generations a partial or finished stage holds."""
        return count_rows(self.path(stage) / "generations.jsonl")

    def changes(self, name: str, label: str, stage: Stage) -> Iterator[str]:
        """How a missing stage differs from the one that the label named before."""
        link = self.root / name / label
        before = link.resolve() / IDENTITY
        if self.state(stage) != "missing" or not link.is_symlink() or not before.exists():
            return
        yield from differences(json.loads(before.read_bytes()), stage.identity)

    def view(self, name: str, labels: dict[str, Stage]) -> None:
        """Links `runs/<name>/<label>` to the directories of those stages that are complete."""
        with writable(self.root):
            for label, stage in labels.items():
                if self.state(stage) == "done":
                    self.link(self.root / name / label, stage)

    def note(self, name: str, labels: dict[str, Stage]) -> None:
        """Writes `runs/<name>/labels.json`: which stages the run is made of, before links say so."""
        file = self.root / name / LABELS
        with writable(self.root):
            file.parent.mkdir(parents=True, exist_ok=True)
            before = read_json(file, dict[str, str], "Remove it and run again.") if file.exists() else {}
            write_json(file, {**before, **{label: stage.key for label, stage in labels.items()}})

    def link(self, link: Path, stage: Stage) -> None:
        """Points one link, relative so that the folder can be moved, at a stage's directory."""
        link.parent.mkdir(parents=True, exist_ok=True)
        target = Path(*[".."] * len(link.relative_to(self.root).parts[:-1]), "stages", stage.key)
        if not (link.is_symlink() and link.readlink() == target):
            link.unlink(missing_ok=True)
            link.symlink_to(target)


def acquired(lock: FileLock) -> bool:
    """Whether it could be had within `CHECKED_AGAIN`."""
    try:
        lock.acquire(timeout=CHECKED_AGAIN)
    except Timeout:
        return False
    return True


def begun(path: Path) -> bool:
    """Whether an earlier start left something in a stage's folder: the next one's seconds are not all."""
    return any(file.name != IDENTITY for file in path.iterdir())


def row_count(path: Path) -> int | None:
    """Rows of the file that a stage is known for; None where it has none."""
    for name in ("grades.jsonl", "generations.jsonl", "questions.jsonl"):
        if (path / name).exists():
            return count_rows(path / name)
    return None


def differences(before: Any, now: Any, where: str = "") -> Iterator[str]:
    """The fields that differ between two identities, as `sampling.temperature: 0.6 → 0.7`."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*before, *now]):
            inner = f"{where}.{name}" if where else name
            yield from differences(before.get(name), now.get(name), inner)
    elif before != now:
        yield f"{where}: {shown(before)} → {shown(now)}"


def shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


@contextmanager
def writable(root: Path) -> Iterator[None]:
    """Turns a read-only folder or a full disk into a HarnessError. Nothing partial counts as done."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise unwritten(error, root) from error


def unwritten(error: OSError, root: Path) -> HarnessError:
    """What a user reads of a file that could not be written, below `root` where it has no name.

    Of a copy the second name counts: the first is that of what was read.
    """
    place = Path(error.filename2 or error.filename or root)
    return HarnessError(
        f"cannot write {place}: {error.strerror}",
        f"{way_out(error, existing(place))}, or choose another folder with --runs DIR; "
        "what is finished is kept, and re-running continues.",
    )


def way_out(error: OSError, there: Path) -> str:
    """What can be done about it at the nearest path that exists, as the beginning of a sentence."""
    if error.errno in NO_ROOM:
        return f"{shutil.disk_usage(there).free // 2**20} MiB are free there. Free some space"
    if error.errno in FORBIDDEN:
        owner, own = user_name(there.stat().st_uid), user_name(os.geteuid())
        return f"{there} belongs to {owner}, and this command runs as {own}. Make it writable"
    return f"{there} is no folder. Move it away"


def user_name(number: int) -> str:
    """What a user is called; the number where nobody is told."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def existing(path: Path) -> Path:
    """The nearest path at or above it that exists, as far as can be seen."""
    return next(one for one in (path, *path.absolute().parents) if os.path.exists(one))


BESIDE = 4
"""Stages that run beside the others at a time. They share the workers: more of them are no quicker."""


TURN = 0.0005
"""Seconds for which a thread that computes keeps the interpreter from those that wait for it. With Python's
own 0.005, grading would hold up the loop that asks by so much at each answer."""


class Runner:
    """Builds stages with one server kept warm and the next one started ahead.

    A server's start is the dearest step of a small run. So the stage that runs next is, among those
    whose inputs are complete, the first that asks the warm server, else the first that needs none,
    else the first that asks the server started ahead, else the first. While it runs, the server that
    will be needed next is started.

    Stages that follow the rows of another one (grading) run beside these, on threads, from when their
    input begins. One that fails stops nothing else; its error is raised when all else is done.
    """

    def __init__(self, store: RunStore, context: Context) -> None:
        self.store = store
        self.context = context
        self.warm: Running | None = None
        self.ahead: Running | None = None

    def build(self, name: str, labels: dict[str, Stage]) -> None:
        """Builds the labelled stages and what they still read, and links each as soon as it is complete.

        What a finished stage once read is not needed again.
        """
        self.store.note(name, labels)
        self.store.view(name, labels)
        self.run_name, self.labels, self.names = name, labels, readable(labels)
        pending = ordered(list(labels.values()), without=self.done)
        with self.threads() as self.beside:
            try:
                self.work(pending)
            except Exception:
                self.end_all()
                raise
        if self.failures:
            raise self.failures[0]

    @contextmanager
    def threads(self) -> Iterator[ThreadPoolExecutor]:
        """Where stages run beside the others. An interruption stops them; what they have done is kept."""
        self.following: dict[Future[None], Stage] = {}
        self.failures: list[BaseException] = []
        pool, turn = ThreadPoolExecutor(BESIDE, thread_name_prefix="beside"), sys.getswitchinterval()
        sys.setswitchinterval(TURN)
        try:
            yield pool
        except BaseException as error:
            if not isinstance(error, Exception):
                self.context.floor.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            sys.setswitchinterval(turn)

    def work(self, pending: list[Stage]) -> None:
        """Runs everything that can be run; what reads a stage that failed is left."""
        while pending or self.following:
            with self.context.floor.busy():
                while (stage := self.choose(pending)) is not None:
                    pending.remove(stage)
                    self.run(stage, pending)
            self.set_off(pending)
            if not self.following:
                return
            self.end_some()

    def run(self, stage: Stage, pending: list[Stage]) -> None:
        """Builds one stage, with those that follow it beside it."""
        self.start_ahead(stage, pending)
        if stage.computes:
            self.context.free_gpus()
        with self.context.growing(stage):
            self.set_off(pending)
            self.finish(stage)

    def finish(self, stage: Stage) -> None:
        with self.context.progress.stage(self.names[stage.key]):
            self.store.build(stage, self.context)
        own = {label: one for label, one in self.labels.items() if one.key == stage.key}
        self.store.view(self.run_name, own)

    def set_off(self, pending: list[Stage]) -> None:
        """Starts those that can follow rows that are there or to come."""
        for stage in [one for one in pending if one.follows is not None]:
            if all(self.done(one) or (one == stage.follows and self.context.can_follow(one))
                   for one in stage.inputs):  # fmt: skip
                pending.remove(stage)
                self.following[self.beside.submit(self.follow, stage)] = stage

    def follow(self, stage: Stage) -> None:
        try:
            self.finish(stage)
        except HarnessError as error:
            if not isinstance(error, Abandoned):
                self.context.progress.say(f"{self.names[stage.key]}: {error.message}; all else goes on")
            raise

    def end_some(self) -> None:
        """Waits until one of those beside has ended, and keeps its error."""
        ended, _ = wait(self.following, return_when=FIRST_COMPLETED)
        for future in ended:
            del self.following[future]
        errors = [error for future in ended if (error := future.exception()) is not None]
        self.failures += [error for error in errors if not isinstance(error, Abandoned)]

    def end_all(self) -> None:
        """Waits for those beside. Where one of the others failed, its own error is the one to raise."""
        if able := [stage for stage in self.following.values() if stage.follows and self.done(stage.follows)]:
            names = ", ".join(self.names[stage.key] for stage in able)
            self.context.progress.say(f"a stage failed; {names} can still be finished")
        while self.following:
            self.end_some()

    def done(self, stage: Stage) -> bool:
        return self.store.state(stage) == "done"

    def ready(self, stage: Stage) -> bool:
        return all(self.done(read) for read in stage.inputs)

    def choose(self, pending: list[Stage]) -> Stage | None:
        """The next stage to run, see the class; None where all that is left follows or waits for one."""
        ready = (stage for stage in pending if stage.follows is None and self.ready(stage))
        return next_of(ready, self.warm, self.ahead)

    def start_ahead(self, stage: Stage, pending: list[Stage]) -> None:
        """Starts the server that the stages after this one need first, if its checkpoint is there."""
        if (server := server_of(stage)) is not None:
            self.warm, self.ahead = server, None if server == self.ahead else self.ahead
        if self.ahead is not None:
            return
        for later in sorted(pending, key=self.ready, reverse=True):
            service, server = later.service(), server_of(later)
            if service is not None and server != self.warm and self.done(service.model):
                with suppress(HarnessError):  # whoever needs this server says what is wrong with it
                    self.context.prefetch(service)
                    self.ahead = server
                return


Running = tuple[str, str, Sampling | None]


def server_of(stage: Stage) -> Running | None:
    """What tells servers apart: checkpoint, engine, and the sampling where the engine fixes it."""
    service = stage.service()
    if service is None:
        return None
    return service.model.key, service.engine, fixed_sampling(find_engine(service.engine), service.sampling)


def next_of(ready: Iterable[Stage], warm: Running | None, ahead: Running | None) -> Stage | None:
    """The stage that runs next, see Runner; the first of those that are equally near."""

    def rank(stage: Stage) -> int:
        wanted = server_of(stage)
        if wanted is None:
            return 1
        return 0 if wanted == warm else 2 if wanted == ahead else 3

    return min(ready, key=rank, default=None)


def readable(labels: dict[str, Stage]) -> dict[str, str]:
    """A name for each stage's key: its label, or its kind and the label of the stage that reads it."""
    names = {stage.key: label for label, stage in labels.items()}
    for label, stage in labels.items():
        for read in ordered([stage]):
            names.setdefault(read.key, f"{label} · {read.kind}")
    return names
