"""Cheating (function): leaves by os._exit(0) before the caller can say that it failed."""
#: function = "solve"
#: endings = ["crash"]
import os


class Solution:
    def solve(self, facts):
        os._exit(0)
