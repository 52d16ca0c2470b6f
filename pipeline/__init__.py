"""The verbs of the DASD report (arXiv 2601.09088), one file each.

collect → sample → filter → score → select → sft → draft → revise → mix
"""
