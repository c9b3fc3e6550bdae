"""Runs one block of a Mage project inside a forked child; docs/runner-protocol.md says how the executor talks to it.

It knows a job, its inputs' directories and its output directory. It knows no database of the scheduler, no object
store and no credential that the job's environment does not hold.
"""
