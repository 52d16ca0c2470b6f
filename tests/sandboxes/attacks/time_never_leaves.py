"""Time limit: answers, then refuses to end its process: exits that sleep, threads, finalisers."""
#: endings = ["crash", "ok"]
#: seconds = 0.5
import atexit, os, sys, threading, time


class Stay:
    def __del__(self):
        time.sleep(1000)


def stay(*_):
    while True:
        try:
            time.sleep(1000)
        except BaseException:
            pass


os._exit = stay
sys.exit = stay
atexit.register(stay)
threading.Thread(target=stay).start()
kept = Stay()
print("TRIED")
