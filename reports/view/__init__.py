"""`harness view`: the stored samples of a run as pages on this machine.

found → index → choosing → pages → server. Nothing is loaded whole: of each row the index keeps where it
stands and what the filters ask; texts are read when a page shows them.
"""
