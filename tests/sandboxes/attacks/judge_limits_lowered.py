"""Takes descriptors, memory, processes and processor time from the guest in the middle of its work."""
#: endings = ["ok", "crash"]
import ctypes, posix

libc = ctypes.CDLL(None, use_errno=True)
for resource in (7, 6, 9, 2, 3, 0, 1):
    if libc.syscall(302, 1, resource, (ctypes.c_uint64 * 2)(1, 1), 0) == 0:
        print("GOT to lower limit", resource)
print("TRIED")
