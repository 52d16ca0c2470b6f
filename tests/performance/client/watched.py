"""A command's wall time and the peak memory of its whole process tree, the same way for every tool.

Time is from before the process starts until it has ended; the processor's is that of the process and of
what it waited for. Memory is sampled from /proc: the highest sum
of the proportional set sizes (PSS) of the tree, or the kernel's own high-water mark (VmHWM) of its
largest process where that is higher, because no sample misses it.
"""

import os
import resource
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

EVERY = 0.1  # seconds between two samples
KIB = 1024


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What one run of a command took: seconds, those of the processor, bytes, exit status, and stdout."""

    seconds: float
    busy: float
    peak: int
    status: int
    output: str


def tree(root: int) -> list[int]:
    """The process and all its living descendants."""
    found, waiting = [], [root]
    while waiting:
        process = waiting.pop()
        found.append(process)
        try:
            threads = list(Path(f"/proc/{process}/task").iterdir())
            waiting += [int(child) for each in threads for child in (each / "children").read_text().split()]
        except OSError:
            continue
    return found


def kibibytes(process: int, file: str, field: str) -> int:
    """A field of a process's memory in KiB; 0 where the process has ended or hides it."""
    try:
        lines = Path(f"/proc/{process}/{file}").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)


def sampled(root: int) -> int:
    """Bytes that the tree takes now, or that its largest process ever took."""
    processes = tree(root)
    together = sum(kibibytes(process, "smaps_rollup", "Pss") for process in processes)
    return KIB * max(together, *(kibibytes(process, "status", "VmHWM") for process in processes))


def watch(
    command: list[str], *, log: Path, environment: dict[str, str] | None = None, limit: float = 900.0
) -> Watched:
    """Runs the command to its end; stderr goes into the log, stdout into the result and the log.

    One that takes longer than `limit` seconds is killed with all that it started; its status is then
    negative.
    """
    with log.open("wb") as errors:
        started, before = time.perf_counter(), processor_time()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            cwd=log.parent,
        )
        peak, over = 0, threading.Event()

        def look() -> None:
            nonlocal peak
            while not over.wait(EVERY):
                peak = max(peak, sampled(process.pid))

        def end() -> None:
            os.killpg(process.pid, signal.SIGKILL)

        looking, alarm = threading.Thread(target=look), threading.Timer(limit, end)
        looking.start()
        alarm.start()
        output, _ = process.communicate()
        seconds = time.perf_counter() - started
        alarm.cancel()
        over.set()
        looking.join()
    text = output.decode("utf-8", errors="replace")
    log.with_suffix(".out").write_text(text, encoding="utf-8")
    busy = processor_time() - before
    return Watched(seconds=seconds, busy=busy, peak=peak, status=process.returncode, output=text)


def processor_time() -> float:
    """Seconds of all ended children of this process; only one is measured at a time."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
