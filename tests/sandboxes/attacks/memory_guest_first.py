"""Memory: small processes fill it, each smaller than the guest, so that the kernel kills the guest first."""
#: slow = true
#: endings = ["out_of_memory", "crash", "time_limit"]
#: seconds = 8
import os, posix, socket, time

# Sockets' buffers are the kernel's memory, charged to the container and to no process.
for _ in range(30):
    if posix.fork() == 0:
        try:
            open("/proc/self/oom_score_adj", "w").write("0")
        except OSError:
            pass
        held = []
        try:
            while True:
                pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
                for each in pair:
                    each.setblocking(False)
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**22)
                held.append(pair)
                try:
                    while True:
                        pair[0].send(bytes(60000))
                except OSError:
                    pass
                try:
                    while True:
                        pair[1].send(bytes(60000))
                except OSError:
                    pass
        except OSError:
            pass
        more = []
        while True:
            more.append(os.urandom(2**16))
            time.sleep(0.001)
time.sleep(100)
