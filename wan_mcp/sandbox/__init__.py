"""A simulated PixelDojo on loopback: real HTTP, simulated credits, a short video marked SANDBOX.

It imports nothing else of wan_mcp, so it is an independent witness of how PixelDojo replies. It
also counts the charges: in every test about money, its count decides. How a job ends depends on
the path of its `video`, whatever the host:

===================== ==================================================
/media/no-person.mp4  failed; the charge stays (a refund is not known)
/media/endless.mp4    processing forever
anything else         completed
===================== ==================================================

By default nothing is fetched and every job returns the same video. With `Terms(videos="own")`
each job gets a video of its own, and a job whose inputs cannot be fetched or read fails.
What PixelDojo does not document is a setting (see `Terms`). Requests can be made to fail (see
`http.faults`).
"""

from wan_mcp.sandbox.http.faults import Fault
from wan_mcp.sandbox.http.message import Reply, Request
from wan_mcp.sandbox.sandbox import Sandbox, serve
from wan_mcp.sandbox.state import KEY
from wan_mcp.sandbox.vendor.terms import Terms
from wan_mcp.sandbox.vendor.vendor import Charge

__all__ = ["KEY", "Charge", "Fault", "Reply", "Request", "Sandbox", "Terms", "serve"]
