"""The Docker engine stops while programs are graded: an engine of our own, never the machine's."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from harness.sandboxes.docker import connected, trouble
from tests.fakes import known_answers
from tests.fakes.engine import running
from tests.faults.fault import Fault, Outcome
from tests.faults.filed import check_said
from tests.faults.struck import HARNESS, PATIENCE, Blow, Ended, Scene, Trouble, hit, said_in

IMAGE = "dasd-harness-sandbox:1"
SWITCHES = ("--benchmarks", "micro_code")
LIMIT, DRAWS = 20, 2
TRIES = 4
Verdicts = dict[tuple[str, int], tuple[bool | None, object]]


class Engine:
    """A Docker engine whose files all lie in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.socket = folder, folder / "sock"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Starts it, in a session of its own, and waits until it answers."""
        (self.folder / "pid").unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["dockerd", "--data-root", self.folder / "data", "--exec-root", self.folder / "exec",
                 "--pidfile", self.folder / "pid", "--host", self.host, "--storage-driver=overlay2",
                 "--bridge=none", "--iptables=false", "--ip6tables=false"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + PATIENCE
        while self.docker("version").returncode:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "log").read_text()[-1500:])
            time.sleep(0.5)

    def docker(self, *words: str) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(["docker", "--host", self.host, *words], capture_output=True, check=False)

    def load(self) -> None:
        """Copies the sandbox's image from the machine's engine."""
        with subprocess.Popen(["docker", "save", IMAGE], stdout=subprocess.PIPE) as saving:
            subprocess.run(["docker", "--host", self.host, "load"], stdin=saving.stdout, check=True)

    def stop(self, which: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(which)
        self.process.wait(PATIENCE)


@contextlib.contextmanager
def engine(folder: Path) -> Iterator[Engine]:
    folder.mkdir()
    found = Engine(folder)
    try:
        found.start()
        found.load()
        yield found
    finally:
        if found.process is not None and found.process.poll() is None:
            containers = found.docker("ps", "--all", "--quiet").stdout.decode().split()
            if containers:
                found.docker("rm", "--force", *containers)
            found.stop(signal.SIGTERM)
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            if (place := line.split()[1]).startswith(f"{folder}/"):
                subprocess.run(["umount", "--lazy", place], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def verdicts(runs: Path) -> Verdicts:
    """Those that are there. Raises Trouble where one is there twice."""
    found: Verdicts = {}
    for file in runs.glob("stages/mark-*/grades.jsonl"):
        for line in file.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                row = json.loads(line)
                key = row["question"], row["draw"]
                if key in found:
                    raise Trouble("lost", f"the verdict on {key} is there twice")
                found[key] = row["correct"], row["extracted"]
    return found


def check_verdicts(found: Verdicts, expected: Verdicts) -> None:
    """Raises Trouble where a verdict is another than undisturbed. None at all is no verdict."""
    for key, verdict in found.items():
        if verdict[0] is not None and verdict != expected[key]:
            raise Trouble("wrongly graded", f"{key} is {verdict}, was {expected[key]}")


def stopped(folder: Path, seed: int, which: signal.Signals) -> Outcome:
    """Stops the engine once some verdicts are there, starts it again after the command has ended.

    The command stands still while the engine ends. One that is done all the same was struck too late: another
    is struck earlier.
    """
    rng = random.Random(f"{seed}:{which.name}")
    machine, log = folder / "machine.toml", folder / "said.txt"
    machine.write_text('[sandbox]\nname = "docker"\nworkers = 2\n')
    place = Path(os.environ.get("TMPDIR", "/tmp")) / f"engine-{os.getpid()}-{rng.randrange(10**6)}"
    with running(*SWITCHES, server=Path(known_answers.__file__)) as server, engine(place) as docker:
        scene = Scene(folder=folder, environment={"DOCKER_HOST": docker.host})
        asked = ["-b", f"micro_code:{DRAWS}", "--limit", str(LIMIT), "--base-url", server.base_url]
        words = [*HARNESS, "evaluate", "tiny", *asked, "--name", "tiny", "--machine", str(machine), "--runs"]
        scene.run([*words, str(folder / "undisturbed")])
        expected = verdicts(folder / "undisturbed")
        wanted = len(expected) - 5
        for number in range(TRIES):
            runs, wanted = folder / f"runs-{number}", rng.randrange(1, max(2, wanted))
            process = scene.start([*words, str(runs)], log)
            until_verdicts(runs, wanted, process)
            hit(process.pid, Blow(after=0, signal=signal.SIGSTOP, group=True))  # an engine takes 10 s to end
            docker.stop(which)
            hit(process.pid, Blow(after=0, signal=signal.SIGCONT, group=True))
            code = process.wait(PATIENCE)
            check_verdicts(verdicts(runs), expected)
            if code:
                break
            docker.start()
        else:
            raise Trouble("lost", f"not struck: it was done, though the engine ended at {wanted} verdicts")
        said = check_said(Ended(code=code, said=said_in(log), seconds=0.0), "could not be graded")
        docker.start()
        scene.run([*words, str(runs)])
        if verdicts(runs) != expected:
            check_verdicts(verdicts(runs), expected)
            raise Trouble("lost", f"{len(expected)} verdicts were expected, {len(verdicts(runs))} are there")
    return Outcome(ending="survived", note=f"{which.name} after {wanted} of {len(expected)} verdicts: {said}")


def until_verdicts(runs: Path, wanted: int, process: "subprocess.Popen[bytes]") -> None:
    """Waits until so many verdicts are there, or the command has ended."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and len(verdicts(runs)) < wanted and time.monotonic() < deadline:
        time.sleep(0.02)


def no_engine() -> str:
    """Why no engine can be started here; empty where one can."""
    if os.geteuid():
        return "an engine of its own takes root"
    if shutil.which("dockerd") is None:
        return "there is no dockerd"
    if why := trouble():
        return why
    with contextlib.closing(connected()) as client:
        return "" if client.images.list(IMAGE) else f"there is no image {IMAGE}"


killed = Fault(
    name="files: the Docker engine is killed while programs are graded",
    kind="docker",
    run=lambda folder, seed: stopped(folder, seed, signal.SIGKILL),
    slow=True,
    needs=no_engine,
)
ended = Fault(
    name="files: the Docker engine is stopped while programs are graded",
    kind="docker",
    run=lambda folder, seed: stopped(folder, seed, signal.SIGTERM),
    slow=True,
    needs=no_engine,
)
