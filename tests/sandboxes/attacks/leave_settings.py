"""Leftovers: umask, folder, environment, limits, priority, modules, builtins, handlers, locale, clocks."""
import builtins, ctypes, locale, os, posix, signal, sys, time

posix.umask(0o777)
posix.chdir("/")
os.environ._data[b"PYTHONPATH"] = b"/tmp"
posix.putenv(b"PYTHONPATH", b"/tmp")
sys.path.insert(0, "/tmp")
sys.modules["json_evil"] = sys
builtins.print, shown = (lambda *_, **__: None), builtins.print
libc = ctypes.CDLL(None, use_errno=True)
for resource in range(16):
    libc.syscall(302, 0, resource, (ctypes.c_uint64 * 2)(100, 100), 0) if resource not in (2, 3, 9) else None
libc.syscall(157, 15, b"evil", 0, 0)
libc.syscall(135, 0x0040000)
try:
    posix.nice(15)
except OSError:
    pass
try:
    os.sched_setaffinity(0, {0})
except OSError:
    pass
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
sys.setrecursionlimit(20)
sys.set_int_max_str_digits(700)
sys.settrace(lambda *_: None)
sys.setrecursionlimit(2000)
shown("TRIED")
