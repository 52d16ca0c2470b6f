"""Kills of `harness serve`: while the server starts, while it answers a client, while it stops.

The fake server stands where machine.toml names vLLM's interpreter. Whoever is struck, the command, the server
or the supervisors between them: what a client reads is a whole right answer or an error, nothing is left, and
the same command on the same port serves again.
"""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from harness import models, serving, store
from harness.cli import running
from harness.errors import ServerError
from harness.serve import free_port
from harness.serving import free_or_refused
from tests.fakes.engine import checkpoint
from tests.faults import asker
from tests.faults.fault import Fault, Outcome
from tests.faults.forked import forked
from tests.faults.striking import IN_ONE_GO
from tests.faults.struck import HARNESS, INTERRUPTED, INTERRUPTED_CODE, ROOT, Scene, Trouble
from tests.faults.victims import Start, Strike, Struck, lacking, send, struck

PRELOADED = (models, serving, store, running)
"""What a fork need not import again."""
STANDIN = Path(__file__).parents[2] / "fakes" / "vllm_cli.py"
AFRESH = 0.1
"""The share of commands that start a Python of their own."""
TEACHER = ROOT / "pipeline" / "micro" / "teacher"
REAL_STRIKES, REAL_SCALE = 5, 30
ROLES = {"server": r"openai_server\.py|vllm\.entrypoints"}
VICTIMS = (
    *("command", "command", "command", "group", "all"),
    *("server", "server", "outer", "inner", "supervisors"),
)
STUBBORN = 0.1
"""The share of servers with a child that outlives SIGTERM, for whose end everything waits 5 s."""


def placed(folder: Path, port: int, switches: str) -> list[str]:
    """The command's arguments, with the stand-in in vLLM's place."""
    checkpoint(folder / "model")
    (folder / "model" / "config.json").write_text('{"max_position_embeddings": 1024}')
    (folder / "model" / "model.safetensors").write_bytes(b"")
    python, machine = folder / "python", folder / "machine.toml"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {STANDIN} {folder / "told"} {switches} -- "$@"\n')
    python.chmod(0o755)
    machine.write_text(f'gpus = 0\n[engines.vllm]\npython = "{python}"\n')
    arguments = ["serve", str(folder / "model"), "--name", "m", "--port", str(port), "--json"]
    return [*arguments, "--machine", str(machine), "--runs", str(folder / "runs")]


def start_of(scene: Scene, arguments: list[str], afresh: bool = False) -> Start:
    """A start of the command: of a Python of its own, or of a fork of this one."""
    return partial(scene.start, [*HARNESS, *arguments]) if afresh else partial(forked, scene, arguments)


def answers(log: Path, command: int) -> bool:
    """Whether the command has said that its server answers."""
    return log.exists() and '"url"' in log.read_text(errors="replace")


def told_to_stop(log: Path, command: int) -> bool:
    """Whether it answers; it is then told to stop."""
    if found := answers(log, command):
        send([command], signal.SIGTERM)
    return found


def at_once(log: Path, command: int) -> bool:
    return True


AFTER = {at_once: 2.0, answers: 0.6, told_to_stop: 0.3}
"""Seconds within which a strike falls after such a moment."""


def drawn(rng: random.Random, log: Path, scale: float) -> Strike:
    begun = rng.choice(tuple(AFTER))
    within = AFTER[begun] * (scale if begun is at_once else 1)
    return Strike(
        victim=rng.choice(VICTIMS),
        signal=rng.choice((signal.SIGKILL, signal.SIGTERM)),
        after=rng.uniform(0, within),
        begun=partial(begun, log),
    )


def complaint(ended: Struck) -> str:
    """What is wrong with how the command ended."""
    strike, said = ended.strike, ended.said
    if "Traceback" in said:
        return "it traced back"
    if ended.code == 0 and said.rstrip().endswith("stopped"):
        return ""
    if ended.code == INTERRUPTED_CODE and INTERRUPTED in said:
        return ""
    if strike is None:
        return "it ended by itself"
    if strike.meets_command and ended.code == -strike.signal:
        return "" if strike.signal == signal.SIGKILL or not ended.caught else "SIGTERM was not handled"
    if strike.victim not in ("command", "group") and ended.code == 1 and "error: " in said:
        return "" if "log ends:" in said.lower() else "the end of the server's log is not told"
    return "it ended otherwise than is documented"


def run(folder: Path, seed: int) -> Outcome:
    rng, port = random.Random(f"{seed}:serve"), free_port(0)
    switches = "--delay 0.03" + (" --child" if rng.random() < STUBBORN else "")
    return disturbed(folder.resolve(), rng, port, placed(folder.resolve(), port, switches))


def really(folder: Path, seed: int) -> Outcome:
    """Five strikes at a real vLLM server of the micro teacher."""
    folder, port = folder.resolve(), free_port(0)
    (folder / "machine.toml").write_text("gpus = 0\n")
    arguments = ["serve", str(TEACHER), "--name", "m", "--port", str(port), "--json"]
    arguments += ["--machine", str(folder / "machine.toml"), "--runs", str(folder / "runs")]
    return disturbed(folder, random.Random(f"{seed}:serve: vLLM"), port, arguments, REAL_STRIKES, REAL_SCALE)


def disturbed(
    folder: Path,
    rng: random.Random,
    port: int,
    arguments: list[str],
    wanted: int = IN_ONE_GO,
    scale: float = 1,
) -> Outcome:
    """So many strikes at a server that a client asks all the while, then one that is left alone. A server's
    start takes `scale` times as long as the stand-in's."""
    scene, log, given, told = Scene(folder=folder), folder / "said.txt", list[Strike](), ""
    try:
        right = undisturbed(start_of(scene, arguments), log, port)
        with asking(port, folder / "read.txt", right):
            while len(given) < wanted:
                log.unlink(missing_ok=True)
                start = start_of(scene, arguments, rng.random() < AFRESH)
                ended = struck(start, log, drawn(rng, log, scale), ROLES)
                given += [ended.strike] if ended.strike is not None else []
                told = ", ".join(map(str, given[-2:]))
                if wrong := complaint(ended):
                    raise Trouble("lost", f"{wrong} ({ended.code}): {ended.said[-1500:]}")
                nothing_left(scene, port)
            serves(start_of(scene, arguments), folder)
        nothing_left(scene, port)
        if files := [str(file.relative_to(folder)) for file in scene.scratch.rglob("*")]:
            raise Trouble("escaped", f"files left behind: {files}")
    except Trouble as trouble:
        return Outcome(ending=trouble.ending, note=f"{trouble} [last: {told}]", strikes=max(1, len(given)))
    return Outcome(ending="survived", note=f"served again after {len(given)} strikes", strikes=len(given))


def undisturbed(start: Start, log: Path, port: int) -> str:
    """What a server that nobody strikes answers, whole and streamed. Raises Trouble where it does not."""
    read = set[str]()

    def asked(command: int) -> bool:
        if found := answers(log, command):
            read.update((asker.whole(port), asker.streamed(port)))
        return found

    stop = Strike(victim="command", signal=signal.SIGTERM, after=0, begun=asked)
    ended = struck(start, log, stop, ROLES)
    if ended.code or len(read) != 1 or not all(read):
        raise Trouble("lost", f"undisturbed, it answered {read} and ended with {ended.code}: {ended.said}")
    return read.pop()


@contextmanager
def asking(port: int, file: Path, right: str) -> Iterator[None]:
    """A client that asks all the while. Raises Trouble where it has read a wrong answer, or none at all."""
    client = subprocess.Popen([sys.executable, "-S", "-E", asker.__file__, str(port), str(file)])
    try:
        yield
    finally:
        client.kill()
        client.wait()
    read = {line for line in file.read_text().splitlines() if line.startswith("answer ")}
    if read != {f"answer {json.dumps(right)}"}:
        raise Trouble("wrongly graded" if read else "lost", f"a client read {sorted(read)}, not {right!r}")


def nothing_left(scene: Scene, port: int) -> None:
    """Raises Trouble where a process is left, or the port is not free again."""
    if left := scene.left():
        raise Trouble("escaped", f"left behind: {left}")
    try:
        free_or_refused("127.0.0.1", port)
    except ServerError as error:
        raise Trouble("escaped", f"the port is not free again: {error}") from error


def serves(start: Start, folder: Path) -> None:
    """Starts the server once more, lets the client read, and stops it. Raises Trouble where it does not."""
    log = folder / "said.txt"
    log.unlink(missing_ok=True)
    strike = Strike(victim="command", signal=signal.SIGTERM, after=0.5, begun=partial(answers, log))
    ended = struck(start, log, strike, ROLES)
    if ended.code or not ended.said.rstrip().endswith("stopped"):
        raise Trouble("lost", f"run again, it ended with {ended.code}: {ended.said[-1500:]}")


serve = Fault(name="serve", kind="serve", run=run)
by_vllm = Fault(name="serve: vLLM", kind="serve", run=really, slow=True, needs=partial(lacking, "vllm"))
