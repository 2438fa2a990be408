"""Side-by-side measurements for bench.py: this project, what it is compared with, its matrix products alone, and peers.

A *case* (cases.py) is one operator shape or one backbone at one input. Its *implementations* are timed in turn, round
after round (timing.py), so that what else the machine does hits all alike. Numbers of one run are comparable with each
other, and with no others.
"""
