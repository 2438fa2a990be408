"""Side-by-side measurements for bench.py: this project, the originals' formulation, the bare products, and peers.

A *case* (cases.py) is one operator shape or one backbone at one input; its *contestants* are timed in turn, round after
round (timing.py), so that what else the machine does hits all alike. Numbers of one run are comparable, others not.
"""
