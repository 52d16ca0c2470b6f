"""Output: writes 1 GB to each descriptor and terminal that it was given, past Python."""
#: endings = ["crash", "ok"]
#: seconds = 30
import os, posix

piece = b"y" * 2**20
for number in (1, 2, 0):
    for _ in range(1024):
        try:
            posix.write(number, piece)
        except OSError:
            break
for path in ("/dev/tty", "/dev/console", "/dev/stderr", "/proc/1/fd/1", "/proc/1/fd/2", "/proc/self/fd/2"):
    try:
        file = posix.open(path, os.O_WRONLY | os.O_NONBLOCK)
        for _ in range(1024):
            posix.write(file, piece)
    except OSError:
        pass
print("TRIED")
