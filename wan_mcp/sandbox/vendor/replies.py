"""The vendor's JSON: how a job, a list of jobs and a refusal appear in replies."""

from typing import Any

from wan_mcp.sandbox.vendor.prices import number
from wan_mcp.sandbox.vendor.schema import MODEL
from wan_mcp.sandbox.vendor.terms import Terms
from wan_mcp.sandbox.vendor.vendor import Job, Refusal, Vendor


def accepted(vendor: Vendor, job: Job) -> dict[str, Any]:
    """The reply to a submit (documented), without the fields that the terms omit."""
    fields = {
        "jobId": job.id,
        "status": "pending",
        "statusUrl": f"{vendor.origin}/api/v1/jobs/{job.id}",
        "creditCost": number(job.cost),
        "creditsRemaining": number(vendor.credits()[job.key]),
        "expiresAt": vendor.expires_at(job),
    }
    return _present(fields, vendor.terms.submit_omits)


def job_page(vendor: Vendor, job: Job) -> dict[str, Any]:
    """The reply to a poll (documented); it has no `output` until there is one (assumed)."""
    status = vendor.status(job)
    fields: dict[str, Any] = {"jobId": job.id, "status": status}
    if status == "completed":
        fields |= _output(f"{vendor.origin}/media/results/{job.id}.mp4", vendor.terms)
    if status == "failed":
        fields["error"] = vendor.error(job)
    fields |= {"creditCost": number(job.cost), "expiresAt": vendor.expires_at(job)}
    return _present(fields, vendor.terms.job_omits)


def job_list(vendor: Vendor, jobs: list[Job]) -> Any:
    """The reply to `GET /jobs`. The vendor documents the call but shows no reply (assumed)."""
    entries = [_list_entry(vendor, job) for job in jobs]
    field = vendor.terms.list_field
    return entries if field is None else {field: entries}


def _list_entry(vendor: Vendor, job: Job) -> dict[str, Any]:
    entry = {**job_page(vendor, job), "apiId": MODEL}
    if vendor.terms.list_echoes_input:
        entry["input"] = dict(job.body)
    return entry


def refusal(exc: Refusal, terms: Terms) -> dict[str, Any]:
    """The body of an error reply, in the shape that the terms ask for."""
    shapes: dict[str, dict[str, Any]] = {
        "object": {"error": {"code": exc.code, "message": exc.message, "status": exc.status}},
        "text": {"error": exc.message},
        "text-message": {"error": exc.code, "message": exc.message},
    }
    return shapes[terms.error_shape]


def _output(url: str, terms: Terms) -> dict[str, Any]:
    if terms.output == "assets":
        return {"assets": [{"url": url}]}
    is_list = terms.output in ("videos", "images")
    return {"output": {terms.output: [url] if is_list else url}}


def _present(fields: dict[str, Any], omitted: frozenset[str]) -> dict[str, Any]:
    """Without fields of no value, and without those omitted; the job id always stays."""
    return {
        name: value
        for name, value in fields.items()
        if value is not None and (name == "jobId" or name not in omitted)
    }
