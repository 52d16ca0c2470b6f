"""Memory: System V segments, which outlive the process that made them, and POSIX queues."""
#: endings = ["ok", "out_of_memory", "crash"]
#: seconds = 20
import ctypes

libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
taken = 0
for _ in range(40):
    segment = libc.shmget(0, 64 * 2**20, 0o1600)
    if segment < 0:
        break
    address = libc.shmat(segment, None, 0)
    if address in (None, 2**64 - 1):
        break
    ctypes.memset(address, 1, 64 * 2**20)
    taken += 64 * 2**20
    libc.shmdt(ctypes.c_void_p(address))
if taken > 2**30:
    print("GOT", taken, "bytes that nobody limits")
print("TRIED", taken)
