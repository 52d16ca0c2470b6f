"""The host's files: reads, lists and writes them by path, through /proc and through dots."""
#: seconds = 20
import glob, json, os, posix

facts = json.loads(input())
paths = [facts["canary_file"], facts["folder"], *facts["files"], "/etc/machine-id", "/root/.ssh", "/home", "/var/lib/docker", "/var/log"]
roots = ["", "/tmp/../..", "/proc/1/root", "/proc/self/root", "/proc/1/cwd/../..", *glob.glob("/proc/[0-9]*/root"), *glob.glob("/proc/[0-9]*/cwd"), "/sys/../.."]
for path in paths:
    for root in roots:
        try:
            file = posix.open(root + path, os.O_RDONLY)
            try:
                print("GOT", path, posix.read(file, 200))
            except IsADirectoryError:
                if found := posix.listdir(file):
                    print("GOT a list of", path, found[:3]) if path not in ("/home", "/var/log") else None
        except OSError:
            pass
for root in roots:
    for flags in (os.O_WRONLY, os.O_WRONLY | os.O_CREAT):
        for name in (facts["canary_file"], facts["folder"] + "/new"):
            try:
                posix.write(posix.open(root + name, flags, 0o666), b"changed")
                print("GOT to write", name)
            except OSError:
                pass
print("TRIED")
