"""Cheating (function): values that equal everything: own __eq__, subclasses of int, str, list, dict and float."""
#: function = "solve"
class Solution:
    def solve(self, facts):
        def same(*_):
            return True

        kinds = [type(f"Liar_{base.__name__}", (base,), {"__eq__": same, "__ne__": lambda *_: False, "__hash__": lambda _: 0, "__len__": lambda _: 1, "__iter__": lambda _: iter([1]), "__reduce__": lambda _: (eval, ("1",))}) for base in (object, int, str, list, dict, float, tuple, bytes, complex)]
        return [*(kind() for kind in kinds), "TRIED", float("nan"), self]
