"""Other samples: looks for what the programs before it left, in its own memory, in files, in /proc."""
#: seconds = 60
import glob, os, re

pattern = rb"sample-" + rb"[0-9a-f]{32}"
mine = re.findall(pattern, input().encode())
found = set()
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", buffering=0) as memory:
    for line in maps:
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        try:
            memory.seek(start)
            found.update(re.findall(pattern, memory.read(end - start)))
        except (OSError, OverflowError, ValueError):
            pass
for path in [*glob.glob("/tmp/**", recursive=True), *glob.glob("/proc/[0-9]*/*"), *glob.glob("/dev/shm/*"), *glob.glob("/dev/mqueue/*")]:
    if os.path.basename(path) in ("mem", "kcore", "pagemap", "kmsg", "clear_refs"):
        continue
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            found.update(re.findall(pattern, file.read(2**20) or b""))
    except OSError:
        pass
for one in found - set(mine):
    print("GOT", one.decode())
print("TRIED")
