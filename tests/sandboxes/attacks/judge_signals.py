"""Signals to the guest and the judge: every signal, by kill, tgkill, queue, pidfd, group and owner."""
import ctypes, fcntl, json, os, posix, signal, socket

facts = json.loads(input())
libc = ctypes.CDLL(None, use_errno=True)
targets = {1, posix.getppid(), facts["host_pid"], facts["host_parent"]} - {0}
for number in [*range(1, 65)]:
    for process in targets:
        libc.kill(process, number)
        libc.syscall(234, process, process, number)
        libc.syscall(129, process, number, (ctypes.c_int * 32)(number, 0, -1))
        handle = libc.syscall(434, process, 0)
        if handle >= 0:
            libc.syscall(424, handle, number, 0, 0)
            posix.close(handle)
left, right = socket.socketpair()
for process in targets:
    try:
        fcntl.fcntl(left, fcntl.F_SETOWN, process)
        fcntl.fcntl(left, 10, signal.SIGKILL)  # F_SETSIG
        fcntl.fcntl(left, fcntl.F_SETFL, os.O_ASYNC)
        right.send(b"x")
    except OSError:
        pass
print("TRIED")
