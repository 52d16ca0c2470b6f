"""Cheating (function): raises what a careless caller does not catch, from the function and from its repr."""
#: function = "solve"
#: endings = ["crash", "runtime_error"]
class Nasty(BaseException):
    def __repr__(self):
        raise KeyboardInterrupt

    __str__ = __repr__

    def __del__(self):
        raise SystemExit(0)


class Solution:
    def solve(self, facts):
        try:
            raise SystemExit(0)
        except SystemExit:
            raise Nasty from KeyboardInterrupt()
