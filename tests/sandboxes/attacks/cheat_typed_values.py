"""Cheating: claims a return value that is malformed, to make the judge fail instead of the program."""
#: function = "solve"
import json, os, struct


class Solution:
    def solve(self, facts):
        output = b'[{"fraction": ["0x1"]}, "TRIED"]'
        head = json.dumps({"status": "ok", "message": "", "seconds": 0, "alarmed": False}).encode()
        os.write(3, struct.pack(">II", len(head), len(output)) + head + output)
        os._exit(0)
