"""Disk: fills every folder that can be written to, and says where that is and how much went in."""
#: seconds = 30
import os, posix

allowed = 64 * 2**20
block = bytes(2**20)
for folder in ("/tmp", "/dev/shm", "/dev/mqueue", "/var/tmp", "/run", "/run/lock", "/var/run", "/", "/dev", "/usr", "/etc", "/home", "/root", "/python", "/opt/packages", "/proc/self", "/sys", "/mnt", "/media", "/srv", "/lib", "/var/cache", "/var/lib", "/opt", "/sys/fs/cgroup"):
    written = 0
    try:
        file = posix.open(f"{folder}/fill", os.O_WRONLY | os.O_CREAT, 0o600)
        while written < 4 * allowed:
            written += posix.write(file, block)
    except OSError:
        pass
    if written > allowed or (written and folder != "/tmp"):
        print("GOT", folder, written)
try:
    posix.ftruncate(posix.open("/tmp/sparse", os.O_WRONLY | os.O_CREAT), 2**40)
    posix.posix_fallocate(posix.open("/tmp/sparse", os.O_WRONLY), 0, 2**31)
    print("GOT more room than /tmp has")
except OSError:
    pass
print("TRIED")
