"""Inputs that are files of this computer: which of them may be read, and how they are read safely.

A stranger's text may tell a model to send any file of this computer. So a file is read only if it
is in a folder that the operator allows, after all links are followed, and if its bytes are those of
a video or a picture. Any other place is not looked at, and nothing is revealed about it, not even
whether something is there.
"""
