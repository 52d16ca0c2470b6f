"""Memory: many children take a little each, more together than one program may."""
#: endings = ["out_of_memory"]
#: seconds = 20
import os, posix, sys, time

for _ in range(24):
    if posix.fork() == 0:
        try:
            open("/proc/self/oom_score_adj", "w").write("0")
        except OSError:
            pass
        try:
            held = bytearray(100 * 2**20)
            for place in range(0, len(held), 4096):
                held[place] = 1
        except MemoryError:
            pass
        time.sleep(60)
        os._exit(0)
time.sleep(60)
