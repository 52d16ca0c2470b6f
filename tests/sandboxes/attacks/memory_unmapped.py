"""Memory that belongs to no process: memfd, then tiny processes that hold it, so that the guest is killed first."""
#: endings = ["out_of_memory", "ok", "crash"]
#: seconds = 20
import ctypes, os, posix

try:
    open("/proc/self/oom_score_adj", "w").write("0")
except OSError:
    pass
libc = ctypes.CDLL(None, use_errno=True)
taken = 0
for number in range(200):
    file = libc.memfd_create(b"x", 0)
    if file < 0:
        break
    chunk = bytes(2**20)
    try:
        for _ in range(64):
            taken += posix.write(file, chunk)
    except OSError:
        break
    if number == 0:
        # The process itself becomes small: what it holds is in the files.
        held = None
if taken > 2**30:
    print("GOT", taken, "bytes")
print("TRIED", taken)
