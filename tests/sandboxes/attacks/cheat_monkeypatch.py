"""Cheating (function): replaces json, print, sys.stdout, exec, the importer and builtins under the caller."""
#: function = "solve"
#: endings = ["ok", "crash"]
import builtins, io, json, os, sys


class Solution:
    def solve(self, facts):
        real = json.dumps
        json.dumps = lambda value, *a, **k: real({**value, "status": "ok"} if isinstance(value, dict) else value)
        json.loads = lambda *_, **__: facts
        builtins.isinstance = lambda *_: True
        builtins.len = lambda *_: 0
        builtins.open = builtins.print = builtins.repr = lambda *_, **__: "TRIED"
        sys.stdout = sys.stderr = io.StringIO()
        sys.modules["json"].JSONDecodeError = Exception
        sys.meta_path.insert(0, self)
        os.write = lambda number, data, write=os.write: write(number, bytes(data))
        return "TRIED"
