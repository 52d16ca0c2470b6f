"""The questions behind the answers: golds, and the tests of programs. Read when a page first needs them."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from harness.benchmark import Benchmark
from harness.errors import HarnessError
from harness.runs import remade
from harness.types import Question
from reports.view.found import Evaluation


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A benchmark's questions by id; `trouble` says why there are none."""

    benchmark: Benchmark | None = None
    questions: Mapping[str, Question] = field(default_factory=dict)
    trouble: str = ""


@dataclass(kw_only=True)
class Library:
    """`benchmarks` gives the known ones: this package may not import them. `data` is their folder."""

    benchmarks: Callable[[], Mapping[str, Benchmark]]
    data: Path | None
    threads: Executor
    loading: dict[bytes, asyncio.Future[Loaded]] = field(default_factory=dict)

    async def of(self, evaluation: Evaluation, patience: float) -> Loaded | None:
        """The questions of an evaluation; None where they are still being read after `patience` seconds.

        What `read` does not expect is raised, and the next page tries again.
        """
        about = msgspec.json.encode([evaluation.asked["benchmark"], evaluation.marked.get("grading", {})])
        if about not in self.loading:
            loop = asyncio.get_running_loop()
            self.loading[about] = loop.run_in_executor(self.threads, self.read, evaluation)
        loading = self.loading[about]
        await asyncio.wait({loading}, timeout=patience)
        if not loading.done():
            return None
        if loading.exception() is not None:
            self.loading.pop(about, None)
        return loading.result()

    def read(self, evaluation: Evaluation) -> Loaded:
        try:
            benchmark = remade(
                evaluation.asked["benchmark"], evaluation.marked.get("grading", {}), self.benchmarks()
            )
            return Loaded(benchmark=benchmark, questions={one.id: one for one in benchmark.load(self.data)})
        except HarnessError as error:
            return Loaded(trouble=str(error))
        except OSError as error:
            return Loaded(trouble=f"the data set cannot be read: {error}")
