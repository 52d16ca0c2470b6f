"""The sandbox image: Python 3.11 with the packages that official LiveCodeBench programs may import.

Package versions are those of LiveCodeBench's lock file (28fef95, uv.lock); sortedcontainers is not
among them, and a program that imports it fails officially too. The packages are installed by pip on
the host, so that the image builds on an engine without network; the base is python:3.11-slim where
a registry answers, else a Debian made by debootstrap.
"""

import hashlib
import io
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import docker
from docker.errors import BuildError, DockerException, ImageNotFound
from filelock import FileLock
from platformdirs import user_cache_path
from requests import RequestException
from urllib3.exceptions import HTTPError

from harness.errors import SandboxError

Say = Callable[[str], None]

NO_ANSWER = (DockerException, RequestException, HTTPError)
"""What comes of asking an engine that refuses, or is gone: then the libraries below speak, not Docker's."""

PACKAGES = (
    "numpy==2.2.5",
    "scipy==1.15.2",
    "sympy==1.13.1",
    "networkx==3.4.2",
    "pandas==2.2.3",
    "numba==0.61.2",
)
REGISTRY_BASE = "python:3.11-slim"
LOCAL_BASE = "dasd-harness-python:3.11"
DEBIAN_PYTHON = "python3.11-minimal,libpython3.11-stdlib,libstdc++6"


def build(client: docker.DockerClient, tag: str, say: Say) -> None:
    """Builds the sandbox image `tag` where the engine lacks it, with or without a registry.

    Takes about two minutes, once. A change of PACKAGES needs a new tag. Raises SandboxError, with the
    tool's last words, where it cannot be built.
    """
    with FileLock(cache_folder() / "image.lock"):
        if present(client, tag):
            return
        say(f"building the sandbox image {tag} (once, about two minutes)")
        with ThreadPoolExecutor(1) as beside:
            packages = beside.submit(installed_packages, "3.11", say)
            base = base_image(client, say)
        build_on(client, base, tag, packages.result())
        say(f"sandbox image {tag} is ready")


def present(client: docker.DockerClient, tag: str) -> bool:
    try:
        client.images.get(tag)
    except ImageNotFound:
        return False
    return True


def build_on(client: docker.DockerClient, base: str, tag: str, packages: Path) -> None:
    """The Dockerfile beside this module, on `base`, with the host-installed packages copied in."""
    with tempfile.TemporaryFile() as context:
        with tarfile.open(fileobj=context, mode="w") as archive:
            recipe = files("harness.sandboxes").joinpath("Dockerfile").read_bytes()
            entry = tarfile.TarInfo("Dockerfile")
            entry.size = len(recipe)
            archive.addfile(entry, io.BytesIO(recipe))
            archive.add(packages, "packages", filter=owned_by_root)
        context.seek(0)
        try:
            client.images.build(
                fileobj=context,
                custom_context=True,
                tag=tag,
                buildargs={"BASE": base},
                network_mode="none",
                rm=True,
            )
        except (BuildError, *NO_ANSWER) as error:
            raise SandboxError(
                f"the sandbox image {tag} could not be built: {error}",
                "check the engine's disk space (`docker system df`), then try again",
            ) from error


def owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def base_image(client: docker.DockerClient, say: Say) -> str:
    """An image with Python 3.11: present, pulled, or made by debootstrap."""
    for name in (REGISTRY_BASE, LOCAL_BASE):
        if present(client, name):
            return name
    try:
        client.images.pull(REGISTRY_BASE)
        return REGISTRY_BASE
    except NO_ANSWER:
        say("no image registry answers: making the base image with debootstrap")
    bootstrap(client)
    return LOCAL_BASE


def bootstrap(client: docker.DockerClient) -> None:
    """Imports a minimal Debian with Python 3.11 as LOCAL_BASE."""
    if shutil.which("debootstrap") is None:
        raise SandboxError(
            "the sandbox image needs a base: no registry answers and debootstrap is not installed",
            f"let the engine reach {REGISTRY_BASE}, or (Debian, as root) run docker/start-engine.sh",
        )
    with tempfile.TemporaryDirectory(prefix="dasd-harness-root-") as folder:
        root = Path(folder) / "root"
        checked(
            "debootstrap",
            "--variant=minbase",
            f"--include={DEBIAN_PYTHON}",
            "bookworm",
            str(root),
            *debian_mirror(),
        )
        archive = Path(folder) / "root.tar"
        checked(
            "tar",
            "--create",
            f"--file={archive}",
            f"--directory={root}",
            "--numeric-owner",
            "--exclude=./var/cache/*",
            "--exclude=./var/lib/apt/lists/*",
            "--exclude=./usr/share/doc/*",
            "--exclude=./usr/share/locale/*",
            "--exclude=./dev/*",
            ".",
        )
        repository, _, tag = LOCAL_BASE.partition(":")
        client.api.import_image_from_file(str(archive), repository=repository, tag=tag)


def debian_mirror() -> list[str]:
    """The mirror that this machine's apt uses, where it is easily told; else debootstrap's own."""
    for source in sorted(Path("/etc/apt").glob("sources.list.d/debian*.sources")):
        for line in source.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name == "URIs" and "security" not in value:
                return [value.strip()]
    return []


def installed_packages(version: str, say: Say) -> Path:
    """A folder with PACKAGES for CPython `version` on Linux, made once and kept in the user's cache."""
    folder = packages_folder(version)
    with FileLock(f"{folder}.lock"):
        if folder.exists():
            return folder
        say(f"installing the sandbox's Python {version} packages: {', '.join(PACKAGES)}")
        with unfinished(folder) as target:
            checked(
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--only-binary=:all:",
                f"--python-version={version}",
                *(f"--platform={name}" for name in platforms()),
                f"--target={target}",
                *PACKAGES,
            )
    return folder


def packages_folder(version: str) -> Path:
    name = hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:8]
    return cache_folder() / f"sandbox-packages-{version}-{name}"


def platforms() -> list[str]:
    """Wheel tags that run on Debian 12 and later, and on python:3.11-slim."""
    machine = {"arm64": "aarch64", "amd64": "x86_64"}.get(platform.machine().lower(), platform.machine())
    return [f"manylinux{tag}_{machine}" for tag in ("2014", "_2_17", "_2_27", "_2_28")]


@contextmanager
def unfinished(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes `folder` when the block ends well."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-") as temporary:
        target = Path(temporary) / "packages"
        yield target
        target.rename(folder)


def cache_folder() -> Path:
    return user_cache_path("dasd-harness", ensure_exists=True)


def checked(*command: str) -> None:
    """Runs a command. Raises SandboxError with the end of its output where it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        tail = "\n".join(done.stdout.strip().splitlines()[-8:])
        raise SandboxError(
            f"{' '.join(command[:3])} failed with exit code {done.returncode}:\n{tail}",
            "mend that (network, disk space, package index), then try again",
        )
