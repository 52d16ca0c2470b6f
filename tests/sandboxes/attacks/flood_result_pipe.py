"""Output: 1 GB of noise into the pipe for results."""
#: endings = ["crash"]
#: seconds = 60
import posix

piece = b"\x00\x00\x00\x05hello" * 100000
for _ in range(1200):
    posix.write(3, piece)
