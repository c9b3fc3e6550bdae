"""graphile-worker: one worker process on PostgreSQL. The setting is `plain`, or `batched`, which is how its authors measure it."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import bench


def measure():
    program, folder = bench.node(__file__)
    bench.measure_asked(bench.Asked('client', program, 'client.mjs', cwd=folder))


bench.main(measure)
