"""A finished evaluation of answers that a fake server knows, to be copied and worked on."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fakes import known_answers
from tests.fakes.engine import SERVER, running
from tests.faults.struck import HARNESS, Scene

RUN = "tiny"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The runs folder, and the address of the server, which is no more: it is part of what was asked."""

    runs: Path
    base_url: str
    benchmarks: tuple[str, ...]
    limit: int

    def again(self, runs: Path, machine: Path) -> Sequence[str]:
        """The command that made it, on another runs folder."""
        asked = [word for name in self.benchmarks for word in ("-b", name)]
        place = ["--base-url", self.base_url, "--runs", str(runs), "--machine", str(machine)]
        return [*HARNESS, "evaluate", RUN, *asked, "--limit", str(self.limit), "--name", RUN, *place]

    def copy(self, runs: Path) -> None:
        """A copy to be worked on. Links within it stay links."""
        shutil.copytree(self.runs, runs, symlinks=True)

    def copy_ungraded(self, runs: Path) -> None:
        """A copy with all responses and no verdict."""
        self.copy(runs)
        for mark in runs.glob("stages/mark-*"):
            shutil.rmtree(mark)


def finished(
    folder: Path, *benchmarks: str, limit: int = 12, switches: Sequence[str] = (), sandbox: str = "bubblewrap"
) -> Finished:
    """The evaluation, made in `folder`: right, wrong, cut-off, missing and hostile answers; or those of
    the fake server with these `switches`."""
    machine = machine_file(folder / "made.toml", sandbox)
    names = ",".join(name.partition(":")[0] for name in benchmarks)
    known = ("--benchmarks", names), Path(known_answers.__file__)
    words, server = (switches, SERVER) if switches else known
    with running(*words, server=server) as endpoint:
        made = Finished(runs=folder / "made", base_url=endpoint.base_url, benchmarks=benchmarks, limit=limit)
        Scene(folder=folder).run(made.again(made.runs, machine))
    return made


def machine_file(path: Path, sandbox: str) -> Path:
    path.write_text(f'[sandbox]\nname = "{sandbox}"\nworkers = 2\nmemory_mb = 512\n')
    return path
