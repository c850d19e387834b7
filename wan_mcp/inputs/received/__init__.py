"""Files that users upload for their jobs, where they and the server are on different computers.

A ticket is an address of limited life that takes the files of one call of one workspace. What
comes is limited, looked at and hashed, and lies in the operator's object storage until a job needs
it, or it is old.
"""
