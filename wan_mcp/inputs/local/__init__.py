"""Inputs that are files of this computer: which of them may be read, and how they are read safely.

A model may be asked by a stranger's text to send any file of this computer. So a file is read only
when it lies in a folder that the operator allows, after all links are followed, and when its bytes
are those of a video or a picture. About any other place nothing is said, not even whether something
is there: it is not looked at.
"""
