"""Faults that long runs meet: kills at any moment, and surroundings that fail.

`fault.py` says what a fault is, `kills/` holds one module a kind of stage, `surroundings/` one module a
fault. Each is found by its module-level values of type Fault; nothing is registered.
"""
