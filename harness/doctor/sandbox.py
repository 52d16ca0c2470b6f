"""Where graded programs run, as `open_sandbox` decides: Docker with what its limits are worth, bubblewrap."""

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from harness.doctor.finding import Finding
from harness.errors import SandboxError
from harness.machine import Machine
from harness.sandboxes import Limits, Program, in_ci, open_sandbox, sandbox_trouble

if TYPE_CHECKING:
    from docker import DockerClient

SANDBOX = "sandbox"
BUBBLEWRAP = "bubblewrap"
ENGINE_SECONDS = 5  # that the Docker engine has for each answer
SET_UP = "harness setup sandbox"


def sandbox(machine: Machine) -> Iterator[Finding]:
    """Every sandbox that programs may be graded in on this machine."""
    wanted = machine.sandbox.name
    if wanted in ("auto", "docker"):
        yield from docker(machine, alone=wanted == "docker" or in_ci())
    if wanted in ("auto", "docker", "bubblewrap"):
        yield bubblewrap(alone=wanted == "bubblewrap")
    else:
        trouble = sandbox_trouble(machine)
        yield Finding(
            area="sandbox",
            name=wanted,
            state="missing" if trouble else "ok",
            found=trouble or "runs",
            provides=(SANDBOX,),
        )


def docker(machine: Machine, alone: bool) -> Iterator[Finding]:
    """The engine, its image and its limits. `alone`: nothing takes its place where it does not answer."""
    from harness.sandboxes import bubblewrap as weaker
    from harness.sandboxes import docker as engine

    try:
        client = engine.connected(ENGINE_SECONDS)
    except SandboxError as error:
        lost = alone or bool(weaker.trouble())
        yield Finding(
            area="sandbox",
            name="Docker",
            state="missing" if lost else "warning",
            found=error.message + ("" if lost else ": bubblewrap, a weaker sandbox, is taken"),
            remedy=error.remedy,
            provides=(SANDBOX,),
        )
        return
    with closing(client):
        yield from answered(client, machine.sandbox.image, machine.sandbox.runtime)


def answered(client: "DockerClient", image: str, runtime: str) -> Iterator[Finding]:
    """What an engine says about itself. Raises SandboxError where it stops answering."""

    from harness.sandboxes.image import NO_ANSWER, present

    try:
        told, there = client.info(), present(client, image)
    except NO_ANSWER as error:
        raise SandboxError(f"the Docker engine answers no longer: {error}") from error
    yield Finding(area="sandbox", name="Docker", state="ok", found=described(told), provides=(SANDBOX,))
    if runtime:
        known = runtime in (told.get("Runtimes") or {})
        yield Finding(
            area="sandbox",
            name="runtime",
            state="ok" if known else "missing",
            found=runtime if known else f"the Docker engine does not know {runtime}",
            remedy="" if known else "register it in /etc/docker/daemon.json, or leave `runtime` out",
            provides=(SANDBOX,),
        )
    yield Finding(
        area="sandbox",
        name="sandbox image",
        state="ok" if there else "missing",
        found=image if there else f"{image} is not built",
        remedy="" if there else SET_UP,
        provides=(SANDBOX,),
    )
    yield from shortcomings(told)


def described(told: dict[str, Any]) -> str:
    words = [
        str(told.get("ServerVersion")),
        str(told.get("Driver")),
        f"cgroup v{told.get('CgroupVersion', 1)}",
    ]
    words += ["rootless"] if any("rootless" in each for each in told.get("SecurityOptions") or ()) else []
    return ", ".join(words)


def shortcomings(told: dict[str, Any]) -> Iterator[Finding]:
    """What makes an engine slow, or its limits worth nothing."""
    if told.get("Driver") == "vfs":
        yield Finding(
            area="sandbox",
            name="storage driver",
            state="warning",
            found="vfs copies the whole image for every container",
            remedy="start dockerd with --storage-driver=overlay2, as docker/start-engine.sh does",
            provides=(SANDBOX,),
        )
    unlimited = [name for name, known in LIMITED.items() if not told.get(known)]
    if unlimited:
        yield Finding(
            area="sandbox",
            name="limits",
            state="warning",
            found=f"the engine does not limit {' and '.join(unlimited)}: one program can take all of it",
            remedy="cgroup v2 with its memory and pids controllers delegated to the engine",
            provides=(SANDBOX,),
        )


LIMITED = {"memory": "MemoryLimit", "processes": "PidsLimit"}


def bubblewrap(alone: bool) -> Finding:
    """bubblewrap with its Python 3.11 and its packages; `alone`: it is the sandbox that was asked for."""
    from harness.sandboxes import bubblewrap as module
    from harness.sandboxes import image

    trouble = module.trouble()
    there = image.packages_folder("3.11").exists()
    told = (
        "runs" if there else f"runs; its packages are installed at the first use ({SET_UP} with sandbox.name)"
    )
    return Finding(
        area="sandbox",
        name="bubblewrap",
        state="missing" if trouble else "ok",
        found=trouble or told,
        remedy=module.REMEDY.removeprefix("or ") if trouble else "",
        provides=(SANDBOX, BUBBLEWRAP) if alone else (BUBBLEWRAP,),
    )


def program(machine: Machine) -> Iterator[Finding]:
    """Runs a program in the sandbox, as grading does. Raises SandboxError where that fails."""
    notes: list[str] = []
    with closing(open_sandbox(machine, notes.append)) as opened:
        (outcome,) = opened.run(Program(code="print(6 * 7)"), [""], Limits()).outcomes
    right = outcome.status == "ok" and outcome.output.strip() == "42"
    yield Finding(
        area="sandbox",
        name="a program",
        state="ok" if right else "missing",
        found=f"ran in {outcome.seconds:.1f} s" if right else f"{outcome.status}: {outcome.message}",
        remedy="" if right else SET_UP,
        provides=(SANDBOX,),
    )
