"""Kernel interfaces that escapes are made of: bpf, perf, userfaultfd, io_uring, keys, modules, memfd_secret."""
import ctypes

libc = ctypes.CDLL(None, use_errno=True)
memory = ctypes.create_string_buffer(4096)
calls = {
    "bpf": (321, 0, memory, 72), "perf_event_open": (298, memory, 0, -1, -1, 0), "userfaultfd": (323, 0), "userfaultfd for users": (323, 1),
    "io_uring_setup": (425, 4, memory), "add_key": (248, b"user", b"x", b"y", 1, -3), "keyctl": (250, 0, -3, 1), "request_key": (249, b"user", b"x", 0, -3),
    "kexec_load": (246, 0, 0, 0, 0), "init_module": (175, memory, 100, b""), "delete_module": (176, b"x", 0), "iopl": (172, 3), "ioperm": (173, 0, 10, 1),
    "swapon": (167, b"/tmp", 0), "acct": (163, b"/tmp/x"), "settimeofday": (164, memory, 0), "clock_settime": (227, 0, memory), "adjtimex": (159, (ctypes.c_uint * 100)(2)),
    "syslog": (103, 3, memory, 100), "fanotify_init": (300, 0, 0), "quotactl": (179, 0x800001, b"/", 0, memory), "fsopen": (430, b"tmpfs", 0),
    "open_tree": (428, -100, b"/", 1), "move_mount": (429, -100, b"/tmp", -100, b"/", 0), "mount_setattr": (442, -100, b"/", 0, memory, 32),
    "memfd_secret": (447, 0), "lookup_dcookie": (212, 0, memory, 10), "process_madvise": (440, 1, memory, 1, 20, 0), "move_pages": (279, 1, 0, 0, 0, 0, 0), "migrate_pages": (256, 1, 1, memory, memory),
    "vhangup": (153,), "nfsservctl": (180,), "uselib": (134, b"/tmp/x"), "modify_ldt": (154, 1, memory, 16), "kcmp": (312, 1, 1, 0, 0, 0),
}
for name, arguments in calls.items():
    if libc.syscall(*arguments) >= 0:
        print("GOT", name)
print("TRIED", len(calls))
