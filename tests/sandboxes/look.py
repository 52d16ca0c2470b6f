"""Looks around as the first thing after an attack: whatever differs from a fresh guest was left behind."""

import ctypes
import json
import os
import posix
import re
import signal
import sys

PATTERN = rb"sample-" + rb"[0-9a-f]{32}"


def listed(folder):
    try:
        return sorted(posix.listdir(folder))
    except OSError as error:
        return error.errno


def text(path):
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="replace")
    except OSError as error:
        return str(error.errno)


def remembered():
    """How many secrets of other programs lie in this process's memory."""
    found = set()
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", buffering=0) as memory:
        for line in maps:
            span, allowed = line.split()[:2]
            if "w" not in allowed:
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            try:
                memory.seek(start)
                found.update(re.findall(PATTERN, memory.read(end - start)))
            except (OSError, OverflowError, ValueError):
                pass
    return len(found)


def limits(process):
    return [line.split() for line in text(f"/proc/{process}/limits").splitlines()]


def processes():
    return sorted(
        text(f"/proc/{name}/stat").split()[1] for name in listed("/proc") if name.isdigit() and name != "1"
    )


seen = {
    "other samples in its memory": remembered(),
    "files in /tmp": listed("/tmp"),
    "the state of /tmp": [os.stat("/tmp").st_mode, os.stat("/tmp").st_uid, os.listxattr("/tmp")],
    "room in /tmp": [os.statvfs("/tmp").f_bavail, os.statvfs("/tmp").f_favail],
    "files in /dev": listed("/dev"),
    "shared memory": listed("/dev/shm"),
    "message queues": listed("/dev/mqueue"),
    "System V objects": [text(f"/proc/sysvipc/{kind}").count("\n") for kind in ("shm", "sem", "msg")],
    "processes": processes(),
    "its environment": sorted(os.environ),
    "its folder": posix.getcwd(),
    "its mask": os.umask(0o22),
    "its limits": limits("self"),
    "the guest's limits": limits(1),
    "priorities": [os.getpriority(os.PRIO_PROCESS, 0), os.getpriority(os.PRIO_PROCESS, 1)],
    "schedulers": [os.sched_getscheduler(0), os.sched_getscheduler(1)],
    "processors": [sorted(os.sched_getaffinity(0)), sorted(os.sched_getaffinity(1))],
    "I/O priorities": [ctypes.CDLL(None).syscall(252, 1, 0), ctypes.CDLL(None).syscall(252, 1, 1)],
    "descriptors": listed("/proc/self/fd")[:4],
    "blocked signals": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "sockets": [text(f"/proc/net/{kind}").count("\n") for kind in ("tcp", "tcp6", "udp", "udp6", "unix")],
    "mounts": text("/proc/self/mounts").count("\n"),
    "names": [sys.argv, sorted(name for name in sys.modules if "evil" in name)],
    "OOM score": text("/proc/1/oom_score_adj"),
}
print(json.dumps(seen))
