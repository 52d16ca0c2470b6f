"""Files that resist removal: no permissions, odd kinds, bound sockets, locks, leases, attributes."""
import fcntl, os, posix, socket

posix.mkdir("/tmp/closed")
for number in range(20):
    posix.mkdir(f"/tmp/closed/{number}")
    posix.close(posix.open(f"/tmp/closed/{number}/file", 65, 0))
    posix.chmod(f"/tmp/closed/{number}", 0)
posix.mkfifo("/tmp/pipe")
socket.socket(socket.AF_UNIX).bind("/tmp/bound")
file = posix.open("/tmp/locked", 66)
fcntl.flock(file, fcntl.LOCK_EX)
fcntl.lockf(file, fcntl.LOCK_EX)
for request in (lambda: fcntl.fcntl(file, 1024, fcntl.F_WRLCK), lambda: fcntl.ioctl(file, 0x40086602, b"\x10\0\0\0\0\0\0\0"), lambda: os.setxattr("/tmp", "user.note", b"x"), lambda: os.setxattr("/tmp/locked", "user.note", b"x"), lambda: posix.chmod("/tmp", 0o700), lambda: posix.utime("/tmp", (0, 0))):
    try:
        request()
    except OSError:
        pass
for name in (b"\xff\xfe", b"-rf", b"*", b"a\nb", b".. ", b"\x1b]0;x\x07", "\u202e".encode()):
    posix.close(posix.open(b"/tmp/" + name, 65, 0))
posix.chmod("/tmp/closed", 0)
print("TRIED")
