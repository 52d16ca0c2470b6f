"""Inodes: as many empty files with long names as can be made, links and pipes among them."""
#: seconds = 8
#: endings = ["ok", "time_limit", "out_of_memory", "crash"]
import posix

made = 0
try:
    for folder in range(1000):
        posix.mkdir(f"/tmp/{folder}")
        for number in range(2000):
            name = f"/tmp/{folder}/{number:0200}"
            if number % 3 == 0:
                posix.mkfifo(name)
            elif number % 3 == 1:
                posix.symlink("y" * 4000, name)
            else:
                posix.close(posix.open(name, 65))
            made += 1
            if made == 200000:
                print("GOT", made, "inodes")
                raise OSError
except OSError:
    pass
print("TRIED", made)
