"""Runs one server and never lets it outlive the harness. Standard library only; Linux.

    python supervise.py PARENT_PID GRACE_SECONDS SCRATCH -- COMMAND…

Standard input is a pipe that the harness holds open and never writes to. When it ends, when the
parent is gone (a forked worker may still hold the pipe), on SIGTERM, or when the server itself ends,
every process below this one is asked to stop, killed after the grace, and reaped: as a child
subreaper this process inherits grandchildren whose own parents died, such as vLLM's EngineCore.
Exits with the server's exit status (128 + signal where a signal ended it). SCRATCH is the harness's scratch
folder (`scratch.py`), or empty: where the harness is gone, nobody else would remove it.

It is two processes: the outer one, which the harness started, only waits for the inner one, which does
all of this. Whoever kills the children of a process that ends (Ray, those of its actors) gets the outer
one, and the inner one still cleans up.

The parent is polled rather than asked for by PR_SET_PDEATHSIG, which fires when the *thread* that
started this process ends. The server itself does get that signal, should this process be killed.
"""

import ctypes
import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
POLL = 0.2

stopping = False


def prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def ask_to_stop(signum: int, frame: object) -> None:
    global stopping
    stopping = True


def die_with_parent() -> None:
    """Runs in the server's process just before it becomes the server."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def parents() -> dict[int, int]:
    """Process id → parent's id, of every process that can be seen."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_bytes()
            except OSError:
                continue
            found[int(entry)] = int(stat.rpartition(b")")[2].split()[1])
    return found


def descendants(root: int) -> list[int]:
    """Ids of all processes below `root`, parents before children."""
    children: dict[int, list[int]] = {}
    for process, parent in parents().items():
        children.setdefault(parent, []).append(process)
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(0), [])
        found += below
        queue += below
    return found


def reap() -> dict[int, int]:
    """Exit codes of the children that have ended since the last call."""
    ended: dict[int, int] = {}
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if process == 0:
            return ended
        ended[process] = os.waitstatus_to_exitcode(status)


def send(signum: int, processes: list[int]) -> None:
    for process in processes:
        try:
            os.kill(process, signum)
        except ProcessLookupError:
            continue


def end_all(grace: float) -> dict[int, int]:
    """Stops everything below this process, by SIGTERM and after `grace` seconds by SIGKILL."""
    ended: dict[int, int] = {}
    deadline = time.monotonic() + grace
    send(signal.SIGTERM, descendants(os.getpid()))
    while True:
        ended |= reap()
        below = descendants(os.getpid())
        if not below:
            return ended
        if time.monotonic() > deadline:
            send(signal.SIGKILL, below)
        time.sleep(0.05)


def orphaned(parent: int) -> bool:
    """Whether the harness is gone: its end of the pipe closed, or another parent inherited us."""
    ready, _, _ = select.select([0], [], [], POLL)
    return (bool(ready) and os.read(0, 1) == b"") or os.getppid() != parent


def waited_for(inner: int, parent: int) -> int:
    """The outer process: exits as the inner one does, or leaves it an orphan where the harness is gone."""
    signal.signal(signal.SIGTERM, lambda signum, frame: os.kill(inner, signum))
    signal.signal(signal.SIGINT, lambda signum, frame: os.kill(inner, signum))
    while os.getppid() == parent:
        signal.sigtimedwait([signal.SIGCHLD], POLL)
        ended = reap()
        if inner in ended:
            return status(ended[inner])
    return 1


def status(code: int) -> int:
    """What a shell would tell: 128 + signal where a signal ended the process."""
    return code if code >= 0 else 128 - code


def remove_abandoned(folder: str) -> None:
    """Removes a scratch folder whose owner is gone: nobody holds the lock on it. It is locked meanwhile, and
    stays where its file system has no locks."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


def main(arguments: list[str]) -> int:
    parent, grace, scratch, command = int(arguments[0]), float(arguments[1]), arguments[2], arguments[4:]
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    outer, inner = os.getpid(), os.fork()
    if inner:
        os.close(0)
        return waited_for(inner, parent)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    code = supervised(outer, grace, command)
    remove_abandoned(scratch)
    return code


def supervised(parent: int, grace: float, command: list[str]) -> int:
    """The inner process: starts the server and ends it with everything below."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)
    try:
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_parent
        )
    except OSError as error:
        print(f"supervise: cannot start {command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    ended: dict[int, int] = {}
    while server.pid not in ended and not stopping and not orphaned(parent):
        ended |= reap()
    ended |= end_all(grace)
    code = ended.get(server.pid, 1)
    print(f"supervise: the server ended with exit code {code}", file=sys.stderr, flush=True)
    return status(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
