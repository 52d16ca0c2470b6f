"""Time limit: takes the alarm away, blocks its signal, and computes on."""
#: slow = true
#: endings = ["crash"]
#: seconds = 0.5
import signal

signal.signal(signal.SIGALRM, signal.SIG_IGN)
signal.setitimer(signal.ITIMER_REAL, 0)
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
while True:
    pass
