"""Cheating (function): values that never end, nest without bound, or run code while they are read."""
#: function = "solve"
#: endings = ["ok", "crash", "runtime_error", "output_limit", "out_of_memory", "time_limit"]
class Lazy(list):
    def __iter__(self):
        while True:
            yield self

    def __len__(self):
        return 2**60

    def __repr__(self):
        return repr(self)


class Solution:
    def solve(self, facts):
        nested = Lazy()
        for _ in range(100000):
            nested = Lazy([nested])
        loop = [1]
        loop.append(loop)
        return ["TRIED", nested, loop, {1: loop}]
