"""How the harness and its peers end under the same ten faults: `python -m tests.performance.peer_faults`.

`server.py` is the server that fails, `faults.py` says when and how, `tools.py` how each tool is run,
`trial.py` strikes one fault at one tool and judges how that ended, `told.py` makes the page's table.
"""
