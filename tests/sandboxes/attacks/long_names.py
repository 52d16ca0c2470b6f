"""Long file names: folders nested beyond any path length and any recursion, with names of 255 bytes."""
import os, posix

for name, depth in (("d", 3000), ("e" * 255, 400), (b"\xff\n\x1b[31m" + b"\xfe" * 200, 30)):
    posix.chdir("/tmp")
    for _ in range(depth):
        try:
            posix.mkdir(name)
            posix.chdir(name)
        except OSError:
            break
    try:
        posix.close(posix.open("leaf", 65))
    except OSError:
        pass
print("TRIED")
