"""The sandbox's own pages, for people and for other processes: what it is, its books, its faults.

====== ================== ==================================================================
GET    /                  a page for people
GET    /sandbox/state     the books: charges, jobs, credits, requests, connections
POST   /sandbox/faults    ``{"method", "path", "faults": [{"fault": "hung", "work": true}, ...],
                          "times": 1}``; names and arguments are those of `faults`
DELETE /sandbox/faults    no more faults
DELETE /sandbox/          the end of a sandbox that `serve` runs
====== ================== ==================================================================
"""

from html import escape
from typing import TYPE_CHECKING, Any

from wan_mcp.sandbox.http.faults import from_json
from wan_mcp.sandbox.http.message import Reply, Request, json_reply, text_reply
from wan_mcp.sandbox.vendor.books import ENDLESS, FAILING
from wan_mcp.sandbox.videos.studio import equipped

if TYPE_CHECKING:
    from wan_mcp.sandbox.sandbox import Sandbox


def owns(path: str) -> bool:
    """Whether a path is the sandbox's own; such requests are neither recorded nor faulted."""
    return path == "/" or path.startswith("/sandbox/")


def answer(sandbox: "Sandbox", request: Request) -> Reply:
    match (request.method, request.path):
        case ("GET" | "HEAD", "/"):
            return text_reply(_page(sandbox))
        case ("GET", "/sandbox/state"):
            return json_reply(_state(sandbox))
        case ("POST", "/sandbox/faults"):
            return _add_faults(sandbox, request)
        case ("DELETE", "/sandbox/faults"):
            sandbox.clear_faults()
            return Reply(204)
        case ("DELETE", "/sandbox/"):
            sandbox.stopped.set()
            return Reply(204)
    return text_reply("No such page", 404)


def _state(sandbox: "Sandbox") -> dict[str, Any]:
    vendor = sandbox.vendor
    return {
        "apiBase": sandbox.api_base,
        "key": sandbox.key,
        "charges": [
            {"key": charge.key, "jobId": charge.job_id, "amount": charge.amount}
            for charge in vendor.charges
        ],
        "jobs": [
            {"jobId": job.id, "status": vendor.status(job), "input": dict(job.body)}
            for job in vendor.jobs.values()
        ],
        "credits": vendor.credits(),
        "requests": [{"method": seen.method, "target": seen.target} for seen in sandbox.requests],
        "connections": sandbox.connections,
    }


def _add_faults(sandbox: "Sandbox", request: Request) -> Reply:
    # A browser sends this type to another origin only after asking, and nobody answers it.
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        return text_reply("Send application/json", 415)
    try:
        _queue(sandbox, request.json())
    except (ValueError, TypeError, KeyError, AttributeError) as wrong:
        return json_reply({"error": f"{type(wrong).__name__}: {wrong}"}, 400)
    return Reply(204)


def _queue(sandbox: "Sandbox", told: dict[str, Any]) -> None:
    faults = [from_json(fault) for fault in told["faults"]]
    method, path, times = told.get("method", "*"), told["path"], told.get("times", 1)
    if not (isinstance(method, str) and isinstance(path, str)):
        raise TypeError("method and path are texts")
    sandbox.fault(method, path, *faults, times=times)


def _page(sandbox: "Sandbox") -> str:
    outcomes = {
        sandbox.clip_url: "a finished film after a few seconds",
        sandbox.origin + FAILING: "a failed job (its credits stay spent)",
        sandbox.origin + ENDLESS: "a job that never ends",
    }
    rows = "".join(
        f'<tr><td><a href="{escape(url)}">{escape(url)}</a></td><td>{escape(outcome)}</td></tr>'
        for url, outcome in outcomes.items()
    )
    credits_left = sandbox.vendor.credits()[sandbox.key]
    film, others = _OWN_FILMS if equipped(sandbox.terms) else _SAMPLE_FILM
    return _TEMPLATE.format(
        api_base=escape(sandbox.api_base),
        key=escape(sandbox.key),
        image=escape(sandbox.image_url),
        rows=rows,
        film=film,
        others=others,
        credits=f"{credits_left:g}",
        charges=len(sandbox.charges),
    )


_OWN_FILMS = (
    "a finished job returns its own clip, cut and scaled as asked, with the character's picture "
    "set in and marked SANDBOX.",
    "Any other video is fetched from its URL, and so is the image.",
)
_SAMPLE_FILM = (
    "it renders nothing and sends nothing anywhere, and every finished job returns the same short "
    "film, marked SANDBOX.",
    "Any other video URL gives a finished film too; it is never fetched.",
)
_TEMPLATE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>wan-mcp sandbox</title>
<style>
 body {{ font: 16px/1.5 system-ui, sans-serif; }}
 body {{ max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }}
 td {{ padding: .2rem 1rem .2rem 0; vertical-align: top; }}
 code {{ overflow-wrap: anywhere; }}
</style>
<h1>wan-mcp sandbox</h1>
<p>A make-believe PixelDojo on this machine. It costs nothing: {film}</p>
<table>
<tr><td>API base</td><td><code>{api_base}</code></td></tr>
<tr><td>API key</td><td><code>{key}</code> ({credits} make-believe credits left)</td></tr>
<tr><td>Charges so far</td><td>{charges} (<a href="/sandbox/state">all that happened</a>)</td></tr>
</table>
<h2>Sample inputs</h2>
<p>Character image: <a href="{image}">{image}</a></p>
<table>
<tr><th align="left">video</th><th align="left">what becomes of the job</th></tr>
{rows}
</table>
<p>{others}</p>
</html>
"""
