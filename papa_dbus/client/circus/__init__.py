"""papa-circusd: the Circus of PyPI with its processes and sockets in Papa, by additions from outside.

Circus 0.17.2 was the last with ``use_papa``; 0.18 and 0.19 have it back with this, and 0.17.2 without its faults. What
is added are subclasses of Circus's Watcher, Process and Arbiter, put where Circus looks its own up; no file of its is
touched.
"""
