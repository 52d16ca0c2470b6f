"""Leftovers: System V memory, semaphores, queues, POSIX queues, shared memory, keys, listening sockets."""
import ctypes, posix, socket

libc = ctypes.CDLL(None, use_errno=True)
libc.shmget(77, 4096, 0o1666)
libc.semget(77, 4, 0o1666)
libc.msgget(77, 0o1666)
libc.syscall(240, b"queue", 66, 0o666, 0)
libc.syscall(248, b"user", b"note", b"x", 1, -4)
try:
    posix.close(posix.open("/dev/shm/left", 65))
except OSError:
    pass
held = []
for family, address in ((socket.AF_INET, ("127.0.0.1", 4444)), (socket.AF_INET6, ("::1", 4445)), (socket.AF_UNIX, "\0left")):
    try:
        held.append(socket.socket(family))
        held[-1].bind(address)
        held[-1].listen()
    except OSError:
        pass
print("TRIED")
