"""Cheating (function): changes its input in place and returns it, with itself inside, and huge numbers."""
#: function = "solve"
#: endings = ["ok", "runtime_error", "output_limit"]
class Solution:
    def solve(self, facts):
        facts["self"] = facts
        facts.clear()
        facts["number"] = 10**49000
        facts["TRIED"] = [float("nan"), float("inf"), -0.0, 1e308 * 10, 2**63, -(2**63) - 1]
        return facts
