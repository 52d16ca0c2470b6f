"""A fork bomb whose children fork on, each in a session of its own."""
#: seconds = 1
#: endings = ["time_limit", "crash", "out_of_memory"]
import posix

while True:
    try:
        if posix.fork() == 0:
            posix.setsid()
    except OSError:
        pass
