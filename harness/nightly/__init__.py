"""The nightly regression gate: tonight's score against our own history, never against a published value.

`config` is what a person writes, `asking` what is asked tonight, `night` and `result` what came of it, `gate`
the statistics, `history` the SQLite file, `retention` and `notification` what happens afterwards.
"""
