"""The interface that the code of Mage projects imports, served by Orrery's runner.

Module and function names are the interface; everything else is this runner's own.
"""
