"""A thread bomb, then as many processes, which ignore every signal and sleep."""
#: endings = ["ok", "crash", "out_of_memory", "time_limit"]
import os, posix, signal, threading, time

started = 0
while started < 100000:
    try:
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        started += 1
    except RuntimeError:
        break
if started > 1000:
    print("GOT", started, "threads")
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
for _ in range(2000):
    try:
        if posix.fork() == 0:
            time.sleep(1000)
    except OSError:
        break
print("TRIED")
