"""Namespaces: unshare, clone, clone3 and setns of every kind, to become root in a new one."""
import ctypes, glob, os, posix, struct

libc = ctypes.CDLL(None, use_errno=True)
kinds = {"user": 0x10000000, "mount": 0x20000, "net": 0x40000000, "pid": 0x20000000, "ipc": 0x8000000, "uts": 0x4000000, "cgroup": 0x2000000, "time": 0x80}
for name, flag in kinds.items():
    child = posix.fork()
    if child == 0:
        got = libc.unshare(flag) == 0 or libc.unshare(flag | kinds["user"]) == 0
        os._exit(7 if got else 0)
    if os.waitstatus_to_exitcode(posix.waitpid(child, 0)[1]) == 7:
        print("GOT a new namespace", name)
    for combined in (flag, flag | kinds["user"]):
        process = libc.syscall(56, combined | 17, 0, 0, 0, 0) if name != "time" else -1
        if process == 0:
            libc.syscall(231, 0)
        if process > 0:
            print("GOT a child in a new namespace", name)
            posix.waitpid(process, 0)
        arguments = ctypes.create_string_buffer(struct.pack("8Q", combined, 0, 0, 0, 17, 0, 0, 0))
        process = libc.syscall(435, arguments, 64)
        if process == 0:
            libc.syscall(231, 0)
        if process > 0:
            print("GOT a child by clone3 in", name)
            posix.waitpid(process, 0)
for path in glob.glob("/proc/1/ns/*") + glob.glob("/proc/self/ns/*"):
    try:
        if libc.setns(posix.open(path, os.O_RDONLY), 0) == 0:
            print("GOT into", path)
    except OSError:
        pass
handle = libc.syscall(434, 1, 0)
if handle >= 0 and libc.setns(handle, 0x20000) == 0:
    print("GOT into the guest's mounts")
print("TRIED")
