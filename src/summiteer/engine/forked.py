"""Imported by the process that local workers are forked from, before all else.

Ctrl-C reaches every process of a terminal. It is the driver's to answer: workers work
on until the driver ends them.
"""

import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)
