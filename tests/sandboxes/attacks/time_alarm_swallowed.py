"""Time limit: swallows the exception of the alarm, again and again."""
#: slow = true
#: endings = ["crash"]
#: seconds = 0.5
import time

while True:
    try:
        while True:
            time.sleep(1)
    except BaseException:
        pass
