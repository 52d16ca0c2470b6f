"""Cheating (function): closes every descriptor, opens others in their place, reads what the caller would."""
#: function = "solve"
#: endings = ["crash", "ok"]
import os


class Solution:
    def solve(self, facts):
        for number in (0, 1, 2, 3):
            try:
                again = os.open(f"/proc/self/fd/{number}", os.O_RDONLY | os.O_NONBLOCK)
                data = os.read(again, 10**6)
                if b"expected-" in data:
                    return data.decode()
            except OSError:
                pass
        os.closerange(0, 256)
        for _ in range(4):
            os.open("/tmp/results", os.O_RDWR | os.O_CREAT)
        return "TRIED"
