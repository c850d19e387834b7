"""Answers a host before the rest of the program is imported.

A host waits one or two seconds for the first answer of a server, and importing the SDK can take
longer. Nothing here imports anything but the standard library, and only what Python loads fast.
"""
