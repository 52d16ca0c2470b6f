"""Time limit: ignores every signal, stops itself, and leaves children that do so too."""
#: slow = true
#: endings = ["crash"]
#: seconds = 0.5
import posix, signal, time

for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
for _ in range(3):
    if posix.fork() == 0:
        posix.setsid()
        if posix.fork() == 0:
            while True:
                time.sleep(1)
posix.kill(posix.getpid(), signal.SIGSTOP)
