"""Cheating (function): walks the caller's frames and all objects for what is expected, and rewrites the caller."""
#: function = "solve"
#: seconds = 30
import gc, inspect, re, sys


class Solution:
    def solve(self, facts):
        found = set()
        frame = sys._getframe()
        while frame:
            found.update(re.findall("expected-[0-9a-f]{32}", repr(frame.f_locals) + repr(frame.f_globals)[:10**6]))
            for name, value in list(frame.f_locals.items()) + list(frame.f_globals.items()):
                if type(value).__name__ == "Program":
                    value.inputs[:] = value.inputs[:1]
                    type(value).attempt = lambda *_: ("ok", "", 0.0, "TRIED")
                if name == "typed":
                    frame.f_globals["typed"] = lambda value, depth=0: "TRIED"
            frame = frame.f_back
        for thing in gc.get_objects():
            if isinstance(thing, (str, list, dict, tuple)):
                try:
                    found.update(re.findall("expected-[0-9a-f]{32}", repr(thing)[:10**5]))
                except Exception:
                    pass
        return found.pop() if found else "TRIED"
