"""Cheating (function): claims a value of 60 MB that is nothing but empty lists, which take gigabytes once read."""
#: function = "solve"
#: seconds = 60
import json, os, struct


class Solution:
    def solve(self, facts):
        output = "[" + "[]," * (20 * 10**6) + '"TRIED"]'
        head = json.dumps({"status": "ok", "message": "", "seconds": 0, "alarmed": False}).encode()
        data = memoryview(struct.pack(">II", len(head), len(output)) + head + output.encode())
        while data:
            data = data[os.write(3, data):]
        os._exit(0)
