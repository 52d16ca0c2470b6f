"""Device nodes: opens all there are, makes new ones, injects keystrokes into terminals."""
import ctypes, fcntl, glob, os, posix, stat

usual = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts/ptmx", "fd", "stdin", "stdout", "stderr", "core", "console"}
for path in glob.glob("/dev/**", recursive=True):
    name = path.removeprefix("/dev/")
    for flags in (os.O_RDONLY | os.O_NONBLOCK, os.O_WRONLY | os.O_NONBLOCK):
        try:
            about = os.stat(path)
            if not (stat.S_ISCHR(about.st_mode) or stat.S_ISBLK(about.st_mode)):
                continue
            file = posix.open(path, flags)
            if name not in usual and not name.startswith(("fd/", "pts/")):
                print("GOT", path)
            fcntl.ioctl(file, 0x5412, b"x")
            print("GOT to type into", path)
        except OSError:
            pass
for kind, major, minor in ((stat.S_IFBLK, 8, 0), (stat.S_IFBLK, 254, 0), (stat.S_IFCHR, 1, 1), (stat.S_IFCHR, 10, 229), (stat.S_IFCHR, 5, 1)):
    for folder in ("/tmp", "/dev", "/dev/shm", "/"):
        try:
            posix.mknod(f"{folder}/node{major}", kind | 0o666, os.makedev(major, minor))
            posix.close(posix.open(f"{folder}/node{major}", os.O_RDWR | os.O_NONBLOCK))
            print("GOT a device", major, minor)
        except OSError:
            pass
print("TRIED")
