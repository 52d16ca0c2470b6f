"""Slow-drip output: a result that never ends, one byte at a time, to hold the judge for ever."""
#: slow = true
#: endings = ["crash"]
#: seconds = 0.5
import posix, signal, time

signal.setitimer(signal.ITIMER_REAL, 0)
posix.write(3, b"\x00\x00\x01\x00\x03\xff\xff\xff")
while True:
    posix.write(3, b" ")
    time.sleep(0.05)
