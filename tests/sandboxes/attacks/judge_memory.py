"""The judge's and the guest's memory and descriptors: /proc, ptrace, process_vm_readv, pidfd_getfd."""
import ctypes, glob, json, os, posix

facts = json.loads(input())
libc = ctypes.CDLL(None, use_errno=True)
targets = {1, posix.getppid(), facts["host_pid"], facts["host_parent"]} - {0, posix.getpid()}
for process in targets:
    for name in ("mem", "maps", "environ", "auxv", "stack", "syscall", "pagemap", "io", "personality", "map_files", "fd", "fdinfo", "ns", "cwd", "root", "exe", "task/1/mem"):
        for flags in (os.O_RDONLY, os.O_WRONLY):
            try:
                file = posix.open(f"/proc/{process}/{name}", flags)
                if name != "maps" or posix.read(file, 10):
                    print("GOT", process, name) if name not in ("fdinfo", "task") or posix.listdir(file) else None
            except OSError:
                pass
    for link in ("cwd", "root", "exe", "fd/0", "fd/1", "fd/4", "ns/net"):
        try:
            print("GOT", process, link, posix.readlink(f"/proc/{process}/{link}"))
        except OSError:
            pass
    for request in (16, 0x4206):
        if libc.ptrace(request, process, 0, 0) == 0:
            print("GOT to trace", process)
    place = (ctypes.c_size_t * 2)(ctypes.addressof(ctypes.create_string_buffer(64)), 64)
    for call in (310, 311):
        if libc.syscall(call, process, place, 1, place, 1, 0) >= 0:
            print("GOT at memory of", process)
    handle = libc.syscall(434, process, 0)
    for number in range(12):
        if handle >= 0 and libc.syscall(438, handle, number, 0) >= 0:
            print("GOT descriptor", number, "of", process)
        if libc.syscall(312, process, posix.getpid(), 0, number, 3) >= 0:
            print("GOT to compare descriptors of", process)
for number in range(4, 300):
    try:
        os.fstat(number)
        if posix.readlink(f"/proc/self/fd/{number}").startswith(("pipe", "socket")):
            print("GOT an inherited descriptor", number)
    except OSError:
        pass
print("TRIED")
