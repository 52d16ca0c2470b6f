"""Limits, priority and processors of the guest, which runs the next program: prlimit, nice, affinity."""
import ctypes, posix

libc = ctypes.CDLL(None, use_errno=True)
for process in {1, posix.getppid()}:
    if libc.syscall(141, 0, process, 19) == 0 or libc.syscall(141, 1, 0, 19) == 0 or libc.syscall(141, 2, 0, 19) == 0:
        print("GOT its priority")
    if libc.syscall(251, 1, process, (3 << 13)) == 0:
        print("GOT its I/O priority")
    for policy, level in ((3, 0), (5, 0), (0, 0)):
        if libc.syscall(144, process, policy, ctypes.byref(ctypes.c_int(level))) == 0:
            print("GOT its scheduler", policy)
    if libc.syscall(203, process, 8, ctypes.byref(ctypes.c_uint64(1))) == 0:
        print("GOT its processors")
    try:
        posix.close(posix.open(f"/proc/{process}/oom_score_adj", 1))
        print("GOT its OOM score")
    except OSError:
        pass
    for resource in range(16):
        held = (ctypes.c_uint64 * 2)()
        if libc.syscall(302, process, resource, 0, held) == 0 and libc.syscall(302, process, resource, held, 0) == 0:
            print("GOT its limit", resource)
print("TRIED")
