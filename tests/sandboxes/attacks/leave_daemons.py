"""Leftovers: orphaned daemons that ignore signals, watch /tmp, and write into it and to the guest."""
#: endings = ["ok", "crash"]
import os, posix, signal, time

for _ in range(5):
    if posix.fork() == 0:
        posix.setsid()
        if posix.fork():
            os._exit(0)
        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        while True:
            try:
                posix.close(posix.open("/tmp/daemon", 65))
            except OSError:
                pass
            for number in range(10):
                try:
                    posix.write(number, b"E\0\0\0\0")
                except OSError:
                    pass
            time.sleep(0.01)
time.sleep(0.3)
print("TRIED")
