"""Programs under bubblewrap, for computers without a Docker engine.

Weaker than Docker: the kernel limits the memory of each process (RLIMIT_AS); that of the program as a
whole is only looked at by the guest, twenty times a second. Of Docker's filter of system calls there is
no more than harness.sandboxes.seccomp. Needs Python 3.11 on the host, because that
is what official verdicts were made with; the scientific packages are installed once, by pip.
"""

import functools
import itertools
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from harness.errors import SandboxError
from harness.machine import Machine
from harness.sandboxes import Accept, Execution, Limits, Program, SandboxKind, Say, accept_all, image
from harness.sandboxes.pool import Channel, Pool, guest_settings, guest_source
from harness.secrets import without_secrets

REMEDY = "or install bubblewrap (Debian: apt-get install bubblewrap) and Python 3.11"
FIRST_UID = 2**30
"""Above every account. The rest is this process's number and a count, so that no two sandboxes share a
user, whose processes the kernel counts together: a fork bomb in one would leave no thread to the other."""
NUMBERS = itertools.count()
WHICH_PYTHON = (
    "import sys; print(sys.version_info[:2] == (3, 11), sys._base_executable, sys.base_prefix, sep=chr(10))"
)
SYSTEM_FOLDERS = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/alternatives")


class BubblewrapSandbox:
    """Runs programs in at most `machine.sandbox.workers` bubblewrap namespaces."""

    name = "bubblewrap"

    def __init__(self, machine: Machine, say: Say) -> None:
        missing = trouble()
        if missing:
            raise SandboxError(f"bubblewrap cannot run programs here: {missing}", REMEDY)
        self.settings = machine.sandbox
        self.packages = image.installed_packages("3.11", say)
        self.pool = Pool(self.start, self.settings.workers, REMEDY, say)

    def run(
        self, program: Program, inputs: list[str], limits: Limits, accept: Accept = accept_all
    ) -> Execution:
        return self.pool.run(program, inputs, limits, accept)

    def close(self) -> None:
        self.pool.close()

    def start(self) -> Channel:
        """A namespace whose guest has been started; run by root, each has a uid of its own."""
        settings = guest_settings(
            uid=FIRST_UID + os.getpid() % 2**22 * 2**8 + next(NUMBERS) % 2**8 if os.getuid() == 0 else 0,
            memory=self.settings.memory_mb * 2**20,
            processes=self.settings.processes,
        )
        return Piped([*command(self.packages), guest_source(), settings])


def command(packages: Path) -> list[str]:
    """The bwrap command up to the text of the guest: one read-only root, one small /tmp, no network.

    Run by root there is no user namespace: the guest itself leaves root, as RLIMIT_NPROC does not
    bind a uid that root owns outside.
    """
    python, prefix = interpreter()
    system = [part for path in SYSTEM_FOLDERS if os.path.exists(path) for part in kept(path)]
    root = os.getuid() == 0
    identity = ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"] if root else ["--unshare-user"]
    return [
        "bwrap",
        *("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *("--die-with-parent", "--new-session", "--as-pid-1", "--clearenv"),
        *("--cap-drop", "ALL", *identity),
        *system,
        *("--ro-bind", str(prefix), "/python", "--perms", "0755", "--dir", "/opt"),
        *("--ro-bind", str(packages), "/opt/packages"),
        # Without root, the settings of the namespace's own message queues belong to the program.
        *("--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys", "--dev", "/dev", "--remount-ro", "/dev"),
        *("--perms", "1777", "--size", str(64 * 2**20), "--tmpfs", "/tmp", "--remount-ro", "/"),  # noqa: S108
        *("--setenv", "OMP_NUM_THREADS", "1", "--setenv", "NUMBA_CACHE_DIR", "/tmp"),  # noqa: S108
        *("--setenv", "HOME", "/tmp", "--setenv", "LANG", "C.UTF-8", "--setenv", "PATH", "/usr/bin:/bin"),  # noqa: S108
        *("--", f"/python/{python}", "-s", "-B", "-c"),
    ]


def kept(path: str) -> list[str]:
    """Arguments that show a system path as it is: a link as a link, a folder read-only."""
    if os.path.islink(path):
        return ["--symlink", os.readlink(path), path]
    return ["--ro-bind", path, path]


@functools.cache
def interpreter() -> tuple[Path, Path]:
    """Python 3.11 relative to its prefix, and the prefix. Raises SandboxError where there is none."""
    candidates = [sys.executable, shutil.which("python3.11") or "", "/usr/bin/python3.11"]
    for candidate in candidates:
        if not candidate or not os.access(candidate, os.X_OK):
            continue
        done = subprocess.run(
            [candidate, "-I", "-c", WHICH_PYTHON],
            env=without_secrets(os.environ), capture_output=True, text=True, check=False,
        )  # fmt: skip
        fits, _, paths = done.stdout.partition("\n")
        if done.returncode == 0 and fits == "True":
            executable, prefix = (Path(line).resolve() for line in paths.splitlines())
            return executable.relative_to(prefix), prefix
    raise SandboxError("there is no Python 3.11 on this computer", REMEDY)


def trouble() -> str:
    """Why bubblewrap cannot be used here, or an empty string."""
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed"
    try:
        probe = [*command(Path("/usr")), "pass"]
    except SandboxError as error:
        return error.message
    done = subprocess.run(probe, env=without_secrets(os.environ), capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"bwrap failed: {done.stderr.strip()[-300:]}"


class Piped:
    """The stdin and stdout of one bwrap process."""

    def __init__(self, arguments: list[str]) -> None:
        self.complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            arguments, env=without_secrets(os.environ),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.complaints, bufsize=0,
        )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin = self.process.stdin.fileno()
        self.stdout = self.process.stdout.fileno()
        self.received = bytearray()

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.stdin, view) :]

    def receive(self, size: int, seconds: float) -> bytes:
        deadline = time.monotonic() + seconds
        while len(self.received) < size:
            if not select.select([self.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError("the sandbox does not answer")
            data = os.read(self.stdout, 1 << 18)
            if not data:
                self.complaints.seek(0)
                raise EOFError(f"bwrap ended. {self.complaints.read().decode(errors='replace')[-500:]}")
            self.received += data
        taken = bytes(self.received[:size])
        del self.received[:size]
        return taken

    def close(self) -> None:
        """Kills bwrap, whose end takes the namespace with it."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.complaints):
            assert stream is not None
            stream.close()


kind = SandboxKind(name="bubblewrap", open=BubblewrapSandbox, trouble=trouble)
