"""What a nightly.toml means here: its checkpoints, benchmarks and claims; and one night from end to end."""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from harness.benchmark import Benchmark
from harness.cli.document import document
from harness.cli.found import asked_benchmark, benchmarks, find_recipe, recipes
from harness.cli.options import Place
from harness.cli.running import running
from harness.discover import find_engine, suggestion
from harness.errors import DataError, HarnessError, UsageError
from harness.hub import Served, checkpoint, local_checkpoint
from harness.models import Known, find_model, recipe_named
from harness.nightly.asking import Evaluation, Evaluations, choose_label, mark_tonight
from harness.nightly.config import Asked, Nightly, drawn_apart
from harness.nightly.history import History
from harness.nightly.night import Over, RunnerOf, run_night
from harness.nightly.notification import notify
from harness.nightly.retention import Removal, planned, remove, run_name
from harness.runs import known_runs
from harness.stage import Stage
from harness.store import Runner, RunStore


@dataclass(frozen=True, kw_only=True)
class Work:
    """A configuration, the file it stands in, and where this call works."""

    config: Nightly
    file: Path
    runs: Path
    data: Path | None
    machine: Path | None

    def place(self, base_url: str = "") -> Place:
        """Where a checkpoint is asked, by the server at an URL where one is running already."""
        return Place(self.runs, self.data, self.machine, base_url or None)

    @property
    def store(self) -> RunStore:
        return RunStore(self.runs)

    @property
    def home(self) -> Path:
        return self.runs / self.config.name

    @property
    def page(self) -> Path:
        return self.home / "trend.html"

    @property
    def history(self) -> Path:
        """The history's file: as configured, relative to the configuration, else among the runs."""
        path = self.config.history.path
        return self.file.parent / Path(path).expanduser() if path else self.home / "history.sqlite"


@contextmanager
def alone(work: Work) -> Iterator[None]:
    """Around a night: no other process works on one of this name. Raises HarnessError where one does."""
    work.history.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work.history.with_name(f".{work.history.name}.{work.config.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise HarnessError(
            f"another process is at work on a night of {work.config.name!r}",
            "Its outcome counts. Where two are meant, give one of them another name in its file.",
        ) from error
    try:
        yield
    finally:
        lock.release()


# What is asked ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A checkpoint that is found, or why there is none."""

    asked: Asked
    engine: str
    benchmarks: tuple[Benchmark, ...]
    published: dict[str, float]
    model: Stage | None = None
    system: str | None = None
    missing: str = ""


def runners(work: Work, opened: ExitStack) -> RunnerOf:
    """A runner for each server that is running already, and one for all the others."""
    urls = {one.called: one.base_url for one in work.config.checkpoints}
    found: dict[str, Runner] = {}

    def runner_of(name: str) -> Runner:
        url = urls[name]
        if url not in found:
            found[url] = Runner(*opened.enter_context(running(work.place(url))))
        return found[url]

    return runner_of


def tests_of(work: Work, history: History, runner_of: RunnerOf) -> Evaluations:
    """The tests of any night. Raises UsageError for whatever in the file names nothing."""
    known = {
        one.checkpoint for night in history.nights(work.config.name) for one in night.results if one.complete
    }
    ready = [found(one, work, runner_of, one.called in known) for one in work.config.checkpoints]

    def tests(label: str) -> list[Evaluation]:
        return [
            Evaluation(
                checkpoint=one.asked.called,
                benchmark=benchmark.name,
                mark=mark_tonight(one.model, benchmark, one.engine, one.system, work.config.name, label)
                if one.model is not None
                else None,
                published=one.published.get(benchmark.name),
                missing=one.missing,
            )
            for one in ready
            for benchmark in one.benchmarks
        ]

    return tests


def found(asked: Asked, work: Work, runner_of: RunnerOf, known: bool) -> Ready:
    """One checkpoint of the file, `known` where an earlier night asked it.

    What is not there tonight is missing; what never was, and is no path either, is a UsageError.
    """
    engine = find_engine(asked.engine or ("remote" if asked.base_url else "vllm")).name
    ready = Ready(
        asked=asked,
        engine=engine,
        benchmarks=tuple(
            drawn_apart(asked_benchmark(text, asked.max_tokens, asked.temperature, {}))
            for text in asked.benchmarks
        ),
        published=published_of(asked.claims) if asked.claims else {},
    )
    try:
        model, system = checkpoint_of(asked, engine, work, runner_of, known)
    except UsageError:
        raise
    except HarnessError as error:
        return replace(ready, missing=str(error))
    return replace(ready, model=model, system=system if asked.system is None else asked.system)


def checkpoint_of(
    asked: Asked, engine: str, work: Work, runner_of: RunnerOf, known: bool
) -> tuple[Stage, str | None]:
    """The checkpoint that `model` names, and the system prompt of its row where it is one."""
    runner = runner_of(asked.called)
    if engine in ("remote", "batch"):
        url = asked.base_url or runner.context.machine.engine(engine).base_url
        if engine == "remote" and not url:
            raise UsageError(f"{asked.called}: the remote engine has no URL", 'Give base_url = "…".')
        return Served(name=asked.model, base_url=url or "files"), None
    try:
        return stored_checkpoint(asked, work, runner)
    except UsageError as error:
        if not (known or is_path(asked.model)):
            raise
        raise DataError(error.message, error.remedy) from error


def is_path(model: str) -> bool:
    """Whether a model can only be meant for a folder, which may be away tonight."""
    return model.startswith(("/", ".", "~")) or model.count("/") > 1


def stored_checkpoint(asked: Asked, work: Work, runner: Runner) -> tuple[Stage, str | None]:
    """A checkpoint of this machine or of a hub. Raises UsageError where there is none."""
    folder = work.file.parent / Path(asked.model).expanduser()
    if folder.is_dir():
        return local_checkpoint(folder, source=asked.called), None
    known = Known(
        store=runner.store,
        recipes=recipes(),
        benchmarks=benchmarks(),
        build=lambda stage: runner.store.build(stage, runner.context),
    )
    model = find_model(asked.model, known)
    run = asked.model.partition("/")[0]
    if recipe_named(run, known.recipes) is None and run not in known_runs(runner.store):
        return checkpoint(asked.model), None
    return local_checkpoint(model.folder, source=asked.model), model.system


def published_of(text: str) -> dict[str, float]:
    """The published values of a RECIPE/ROW, by benchmark. Raises UsageError where it has none."""
    from reports.assemble import claims_by_label

    name, _, row = text.partition("/")
    told: dict[str, dict[str, float]] = {}
    for label, own in claims_by_label(find_recipe(name)).items():
        _, of, benchmark = label.split("/")
        told.setdefault(of, {})[benchmark] = own[0].value
    if row not in told:
        raise UsageError(f"claims = {text!r}: no value is published for {row!r}. {suggestion(row, told)}")
    return told[row]


# One night ----------------------------------------------------------------------------------


def one_night(work: Work, history: History, wanted: str | None, again: bool) -> tuple[Over, list[str]]:
    """Asks, judges and records a night; then the page, the hook and what is old.

    Returns what came of it, and what there is to say about the last three, which change no outcome.
    """
    over, told = None, []
    try:
        with alone(work), ExitStack() as opened:
            runner_of = runners(work, opened)
            tests = tests_of(work, history, runner_of)
            label = label_of(work, history, tests, wanted, again)
            history.claim(work.config.name, work.file)
            night = history.begin(work.config.name, label)
            run = run_name(work.config.name, label)
            over = run_night(runner_of, history, night, run, tests(label), work.config.gate)
            told = afterwards(work, history, over)
    except (Exception, SystemExit) as error:  # the latter is rich's, where a pipe is closed
        if over is None:
            raise
        told.append(f"stopping what was started failed, which changes no outcome: {error}")
    return over, told


def label_of(work: Work, history: History, tests: Evaluations, wanted: str | None, again: bool) -> str:
    """Which night this is. Its run shall never pass for a recipe's or for somebody's own, nor they for it."""

    def taken(label: str) -> bool:
        run = run_name(work.config.name, label)
        return recipe_named(run, recipes()) is not None or (work.runs / run).exists()

    return choose_label(
        history,
        work.config.name,
        tests,
        wanted=checked_label(wanted),
        again=again,
        now=time.time(),
        taken=taken,
    )


def checked_label(wanted: str | None) -> str | None:
    """The label. Raises UsageError where no run could be called so."""
    if wanted is not None and not re.fullmatch(r"[\w.-]+", wanted):
        raise UsageError(f"a night cannot be called {wanted!r}", "Use letters, digits, . _ and - only.")
    return wanted


def afterwards(work: Work, history: History, over: Over) -> list[str]:
    """Writes the page, tells the hook, removes what is old. What is worth saying about it.

    The night is recorded: whatever breaks here is said and no more. The page comes first, since the hook is
    told where it is.
    """
    from reports.nightly import as_told
    from reports.trend import write_trend

    def page() -> Iterator[str]:
        write_trend(work.page, work.config, history.nights(work.config.name))
        yield f"trend: {work.page}"

    def hook() -> list[str]:
        return tell(work, over.outcome, over.night.label, as_told(over, str(work.page.resolve())))

    def old() -> list[str]:
        return removed(remove(work.store, going(work, history)), "removed")

    return [*tried("the trend page", page), *tried("the notification", hook), *tried("the removal", old)]


def tried(what: str, step: Callable[[], Iterable[str]]) -> list[str]:
    """What a step has to say, or that it failed."""
    try:
        return list(step())
    except Exception as error:  # noqa: BLE001  a recorded outcome outlives whatever follows it
        return [f"{what} failed, which changes no outcome: {error}"]


def going(work: Work, history: History) -> Removal:
    """What is old by now."""
    nights = history.nights(work.config.name)
    return planned(work.store, nights, work.config.history.keep_rows, time.time())


def tell(work: Work, outcome: str, label: str, told: object) -> list[str]:
    """Runs the hook where it wants to know, with one document. What went wrong with it."""
    hook = work.config.notify
    if not hook.command or outcome not in hook.on:
        return []
    environment = {
        "HARNESS_OUTCOME": outcome,
        "HARNESS_NIGHT": label,
        "HARNESS_PAGE": str(work.page.resolve()),
    }
    wrong = notify(hook, document(told).encode(), environment, work.file.parent.resolve())
    return [wrong] if wrong else []


def removed(gone: Removal, verb: str) -> list[str]:
    if not gone.runs:
        return []
    names = ", ".join(run.name for run in gone.runs)
    return [f"{verb}: the responses of {names} ({len(gone.stages)} stages); their counts stay"]


def dry_run(work: Work, history: History, wanted: str | None, again: bool) -> Iterator[str]:
    """What a night would ask, and what would be removed after it."""
    with ExitStack() as opened:
        runner_of = runners(work, opened)
        tests = tests_of(work, history, runner_of)
        label = label_of(work, history, tests, wanted, again)
        yield f"night {label}, run {run_name(work.config.name, label)}, nothing is asked now:"
        store = work.store
        for test in tests(label):
            if test.mark is None:
                yield f"  {test.line}: {test.missing}"
            else:
                draws, there = test.mark.asked.drawn.draws, store.rows(test.mark.asked)
                yield f"  {test.line}: {draws} draws a question, {there:,} responses there ({test.mark.key})"
        yield from removed(going(work, history), "would remove") or ["nothing would be removed"]
