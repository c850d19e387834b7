"""Files that users upload for their jobs, if they and the server are on different computers.

A ticket is an address of limited life that takes the files for one call of one workspace. What is
uploaded is limited, inspected and hashed, and stays in the operator's object storage until a job
needs it or it is old.
"""
