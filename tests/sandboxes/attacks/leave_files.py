"""Leftovers: files, folders, links, pipes in every place that can be written to."""
import posix

for place in ("/tmp", "/var/tmp", "/dev/shm", "/run", "/home", "/opt", "/python", "/usr/lib/python3", "/opt/packages", "/etc/cron.d", "/var/spool/cron"):
    for name in ("json.py", "sitecustomize.py", ".hidden", "numpy.py", "usercustomize.py", ".bashrc"):
        try:
            posix.write(posix.open(f"{place}/{name}", 65, 0o777), b"raise SystemExit(13)")
            if place != "/tmp":
                print("GOT to leave", place, name)
        except OSError:
            pass
posix.mkdir("/tmp/.local")
posix.mkdir("/tmp/.config")
print("TRIED")
