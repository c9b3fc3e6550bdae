"""awa: its engine, and handlers in Python, in one process with the client. The setting is how many jobs it does at once."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import bench

WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'worker.py')

bench.main(lambda: bench.measure_asked(bench.Asked('worker', sys.executable, WORKER)))
