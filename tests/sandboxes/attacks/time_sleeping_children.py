"""Time limit: the program ends at once, its children keep the result pipe open and sleep."""
#: endings = ["crash", "ok"]
#: seconds = 1
import os, posix, time

if posix.fork() == 0:
    posix.setsid()
    if posix.fork() == 0:
        time.sleep(1000)
    os._exit(0)
print("TRIED")
