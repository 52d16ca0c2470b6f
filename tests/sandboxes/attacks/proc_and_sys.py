"""/proc and /sys: opens everything in them for writing, and reads what the kernel should keep."""
#: seconds = 100
import os, posix

harmless = {"clear_refs", "comm", "coredump_filter", "loginuid", "mem", "oom_adj", "oom_score_adj", "projid_map", "gid_map", "uid_map", "setgroups", "timens_offsets", "autogroup", "sched", "timerslack_ns", "attr", "current", "exec", "fscreate", "keycreate", "prev", "sockcreate", "latency", "fail-nth", "make-it-fail", "seccomp_cache", "map_files", "ksm"}
tried = 0
for top in ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/acpi", "/proc/scsi", "/proc/1", "/proc/self", "/proc/mtrr", "/proc/timer_list", "/sys"):
    for folder, _, files in os.walk(top):
        if "/task/" in folder or "/fd" in folder:
            continue
        for name in files:
            path = f"{folder}/{name}"
            tried += 1
            try:
                file = posix.open(path, os.O_WRONLY | os.O_NONBLOCK)
                if top in ("/proc/1", "/proc/sys"):
                    # The kernel lets anybody open a few of these, and refuses what is then written. To
                    # write what is there already harms nobody where it is not refused.
                    posix.write(file, posix.read(posix.open(path, os.O_RDONLY | os.O_NONBLOCK), 4000))
                posix.close(file)
                if top != "/proc/self" or name not in harmless:
                    print("GOT to open for writing", path)
            except OSError:
                pass
try:
    posix.close(posix.open("/proc/sysrq-trigger", os.O_WRONLY))
    print("GOT sysrq")
except OSError:
    pass
for path in ("/proc/kcore", "/proc/kmsg", "/dev/kmsg", "/proc/kpagecount", "/proc/kpageflags", "/proc/keys", "/proc/sched_debug", "/sys/firmware/acpi/tables/DSDT", "/sys/kernel/debug/sched", "/sys/kernel/security", "/sys/kernel/vmcoreinfo", "/proc/vmallocinfo", "/proc/slabinfo", "/proc/sys/kernel/core_pattern/x"):
    try:
        file = posix.open(path, os.O_RDONLY | os.O_NONBLOCK)
        if posix.read(file, 4000).strip():
            print("GOT", path) if path != "/proc/keys" else None
    except OSError:
        pass
try:
    with open("/proc/kallsyms") as symbols:
        if any(int(line.split()[0], 16) for _, line in zip(range(100), symbols)):
            print("GOT addresses of the kernel")
except OSError:
    pass
print("TRIED", tried)
