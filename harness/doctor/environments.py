"""Engines and trainers: is the environment of each there, does its Python run, is it built for this machine?

Nothing is imported: vLLM alone takes a minute for that. `harness/doctor/starting.py` does it where asked.
"""

import functools
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from harness.discover import engines
from harness.doctor.finding import Finding, State
from harness.doctor.interpreter import PIP, faults, required, shortened
from harness.errors import HarnessError
from harness.files import UNREADABLE
from harness.machine import Machine, told_by_driver
from harness.secrets import without_secrets
from harness.setup import ENVIRONMENTS, environment_python, pins, recorded

PROBE_SECONDS = 8.0
TRAINING = ("engine torch", "engine trl")
DRIVERS = {11: 450, 12: 525, 13: 580}
"""The oldest driver of a CUDA major version, which runs its later minor versions, too (NVIDIA's "CUDA minor
version compatibility")."""

NEEDS_GPU = "a machine with an NVIDIA GPU; other engines run without one"

PROBE = r"""
import importlib.metadata, importlib.util, json, pathlib, platform, re, sys
module, names = sys.argv[1], sys.argv[2:]
versions = {}
for name in names:
    try:
        versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
torch, cuda = importlib.util.find_spec("torch"), None
if torch and torch.origin:
    text = (pathlib.Path(torch.origin).parent / "version.py").read_text()
    cuda = (re.findall(r"^cuda[^=]*= '([^']+)'", text, re.M) or [""])[0]
print(json.dumps({
    "python": platform.python_version(), "versions": versions, "cuda": cuda,
    "importable": not module or importlib.util.find_spec(module) is not None,
}))
"""


class Probed(msgspec.Struct):
    """What an environment's Python says. `cuda` is that of its torch: "" for a CPU build, None: no torch."""

    python: str
    versions: dict[str, str]
    cuda: str | None
    importable: bool


def environment_names() -> list[str]:
    """What `harness setup` builds, then engines that bring an environment of their own."""
    return [
        *ENVIRONMENTS,
        *(name for name, one in engines().items() if one.local and name not in ENVIRONMENTS),
    ]


def provided(name: str) -> str:
    return f"engine {name}"


def environment(name: str, machine: Machine) -> Iterator[Finding]:
    """The environment of one engine or trainer. Raises HarnessError where it is not there."""
    engine = engines().get(name)
    if engine is not None and engine.needs_gpu and not machine.gpus:
        yield found(name, "missing", "needs an NVIDIA GPU, and there is none", NEEDS_GPU)
    elif image := machine.engine(name).image:
        yield contained(name, image)
    else:
        python = engine.python(machine) if engine is not None else environment_python(name, machine)
        packages = engine.package if engine is not None else (name,)
        try:
            told = probe(python, name if name in ENVIRONMENTS else "", packages)
        except HarnessError as error:
            yield found(name, "missing", error.message, rebuilt(name, machine))
            return
        yield judged_build(name, machine, python, told)


def found(name: str, state: State, text: str, remedy: str = "") -> Finding:
    return Finding(
        area="engines", name=name, state=state, found=text, remedy=remedy, provides=(provided(name),)
    )


def probe(python: Path, module: str, packages: tuple[str, ...]) -> Probed:
    """What the interpreter says of itself, and whether it would find `module`. Raises HarnessError where it
    does not run."""
    command = [str(python), "-c", PROBE, module, *packages]
    where = shortened(python)
    try:
        done = subprocess.run(
            command, env=without_secrets(os.environ),
            capture_output=True, text=True, check=False, timeout=PROBE_SECONDS, cwd="/",
        )  # fmt: skip
    except OSError as error:
        raise HarnessError(f"{where} does not run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise HarnessError(f"{where} does not answer within {PROBE_SECONDS:.0f} s") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise HarnessError(f"{where} fails with exit code {done.returncode}: {last}")
    try:
        return msgspec.json.decode(done.stdout, type=Probed)
    except UNREADABLE as error:
        raise HarnessError(f"{where} is no Python: it answers {done.stdout[:60]!r}") from error


def judged_build(name: str, machine: Machine, python: Path, told: Probed) -> Finding:
    """Whether what is installed is what was pinned, and was built for the devices of this machine."""
    engine = engines().get(name)
    unversioned = engine is not None and not engine.package
    package, version = next(iter(told.versions.items()), (name, ""))
    if not told.importable or not (version or unversioned):
        return found(name, "missing", f"{shortened(python)} has no {name} installed", rebuilt(name, machine))
    words = f"{package} {version}".strip() + f", {build_of(told)}"
    own = machine.engine(name).python is None
    outdated = (
        own and name in ENVIRONMENTS and recorded(python.parent.parent) != pins(ENVIRONMENTS[name], machine)
    )
    if machine.gpus and told.cuda and (old := too_old(told.cuda)):
        return found(name, "missing", f"{words}: {old}", "install that driver, or a newer one")
    if machine.gpus and told.cuda == "":
        return found(name, "warning", f"{words}, beside {machine.gpus} GPUs", rebuilt(name, machine))
    if outdated:
        return found(name, "warning", f"{words}; other versions are pinned now", f"harness setup {name}")
    return found(name, "ok", words)


def build_of(told: Probed) -> str:
    built = f"CUDA {told.cuda} build" if told.cuda else "CPU build" if told.cuda == "" else "no torch"
    return f"{built}, Python {told.python}"


def rebuilt(name: str, machine: Machine) -> str:
    """The command that makes the environment anew."""
    settings = machine.engine(name)
    if settings.python is not None:
        return f"mend it, or take engines.{name}.python out of machine.toml and run: harness setup {name}"
    return f"rm -r {shlex.quote(str(machine.environments / name))} && harness setup {name}"


def too_old(cuda: str) -> str:
    """What is wrong with the driver for a CUDA build, or nothing."""
    wanted, driver = DRIVERS.get(int(cuda.partition(".")[0])), driver_version()
    major = driver.partition(".")[0]
    if wanted is None or not major.isdigit() or int(major) >= wanted:
        return ""
    return f"CUDA {cuda} needs a driver from {wanted} on, and {driver} is installed"


@functools.cache
def driver_version() -> str:
    told = told_by_driver("--query-gpu=driver_version", "--format=csv,noheader")
    return (told.stdout.split() or [""])[0] if told.returncode == 0 else ""


def elsewhere(name: str, machine: Machine) -> Iterator[Finding]:
    """A server that somebody else runs. Its URL is not told: it may hold a secret."""
    if machine.engine(name).base_url:
        yield found(name, "ok", "its URL is given")
    else:
        yield found(name, "missing", "no URL", f"--base-url URL, or engines.{name}.base_url in machine.toml")


def contained(name: str, image: str) -> Finding:
    """An engine that runs from a Docker image: needs the image, and the `docker` command."""
    from contextlib import closing

    from harness.doctor.sandbox import ENGINE_SECONDS
    from harness.sandboxes import docker
    from harness.sandboxes.image import present

    if shutil.which("docker") is None:
        return found(name, "missing", f"image {image}: there is no docker command", docker.REMEDY)
    with closing(docker.connected(ENGINE_SECONDS)) as client:
        there = present(client, image)
    return found(
        name,
        "ok" if there else "missing",
        f"image {image}{'' if there else ' is not on this machine'}",
        "" if there else f"docker pull {image}",
    )


def training(machine: Machine) -> Iterator[Finding]:
    """The packages that score and train in this very Python."""
    wrong = faults(required("train"))
    if wrong:
        yield in_process("missing", "; ".join(wrong.values()), f"{PIP} 'dasd-harness[train]'")
        return
    told = probe(Path(sys.executable), "torch", ("torch",))
    words = f"torch {told.versions['torch']}, {build_of(told)}"
    beside = bool(machine.gpus) and told.cuda == ""
    yield in_process(
        "warning" if beside else "ok",
        f"{words}, beside {machine.gpus} GPUs" if beside else words,
        f"{PIP} --force-reinstall torch from PyTorch's index for your CUDA" if beside else "",
    )


def in_process(state: State, text: str, remedy: str) -> Finding:
    return Finding(
        area="engines", name="torch and trl", state=state, found=text, remedy=remedy, provides=TRAINING
    )
