"""PixelDojo on loopback: real HTTP, make-believe credits, a real short film marked SANDBOX.

It imports nothing else of wan_mcp, so that it is an independent witness of the vendor's words, and
it counts the charges: in a test about money its count decides. By the path of the `video`,
whatever its host, a job ends in one of these ways:

===================== ==============================================
/media/no-person.mp4  failed; the charge stays (a refund is not known)
/media/endless.mp4    processing, for ever
anything else         completed
===================== ==============================================

Inputs are never fetched and every film is the same, unless the terms ask for films of the jobs'
own: then a job that is not named above fails when its inputs cannot be fetched or read.
What PixelDojo does not document is a setting (`Terms`); how requests go wrong is in `faults`.
"""

from wan_mcp.sandbox.http.faults import Fault
from wan_mcp.sandbox.http.message import Reply, Request
from wan_mcp.sandbox.sandbox import KEY, Sandbox, serve
from wan_mcp.sandbox.vendor.books import Charge
from wan_mcp.sandbox.vendor.terms import Terms

__all__ = ["KEY", "Charge", "Fault", "Reply", "Request", "Sandbox", "Terms", "serve"]
