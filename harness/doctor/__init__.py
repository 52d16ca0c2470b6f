"""What `harness doctor` looks at: one question a module, each answered by findings.

A check calls what a run itself would call, so that the two cannot disagree. It starts nothing that stays,
asks no network unless it is told to, and has a time limit; one that fails is a finding, and hides no other.
"""
