"""Cheating (function): traces the caller and lets threads outlive the call, to change what it reports."""
#: function = "solve"
#: endings = ["ok", "crash", "runtime_error"]
import sys, threading, time


class Solution:
    def solve(self, facts):
        def meddle(frame, event, value):
            frame.f_locals["status"] = "ok"
            if event == "return" and frame.f_code.co_name == "attempt":
                frame.f_locals["value"] = "TRIED"
            return meddle

        sys.settrace(meddle)
        sys.setprofile(meddle)
        frame = sys._getframe()
        while frame:
            frame.f_trace = meddle
            frame = frame.f_back
        for _ in range(4):
            threading.Thread(target=lambda: [time.sleep(0.01) for _ in range(10**6)]).start()
        return "TRIED"
