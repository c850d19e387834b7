"""The command `http` for people who sign in, as an operator starts it."""

import base64
from pathlib import Path

import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from tests.replicas.processes import Replica
from tests.tenants.team import Blue
from wan_mcp.sandbox import Sandbox
from wan_mcp.tenants.administration.acts import Operator

pytestmark = pytest.mark.anyio


async def test_official_client_with_a_token_in_its_header_buys_with_the_wallet_of_its_user(
    operator: Operator, database: str, tmp_path: Path
) -> None:
    """The server has no PixelDojo key in its settings (ours)."""
    keys = tmp_path / "key-ring"
    keys.write_text(f"a {base64.b64encode(b'a'.ljust(32, bytes([1]))).decode()}\n", "utf-8")
    async with Sandbox() as sandbox:
        blue = Blue(operator, sandbox.key, sandbox.api_base)
        server = Replica(
            {
                "PIXELDOJO_API_BASE": sandbox.api_base,
                "WAN_MCP_LEDGER_URL": database,
                "WAN_MCP_KEY_RING_FILE": str(keys),
                "WAN_MCP_SIGN_IN": "tokens",
                "WAN_MCP_PERSONAL_KEYS": "on",
            }
        )
        try:
            server.start()
            inputs = {"video": sandbox.source_video_url, "character_image": sandbox.image_url}
            async with httpx2.AsyncClient(trust_env=False, timeout=600) as http:
                stranger = await http.post(server.url)
                ready = await http.get(server.url.replace("/mcp", "/readyz"))
                http.headers["authorization"] = f"Bearer {blue.token(blue.ann).text}"
                async with Client(streamable_http_client(server.url, http_client=http)) as client:
                    answer = await client.call_tool("replace_character", inputs)
                http.headers["authorization"] = f"Bearer {blue.token(blue.eve).text}"
                async with Client(streamable_http_client(server.url, http_client=http)) as client:
                    refused = await client.call_tool("check_credits", {})
                page = server.url.replace("/mcp", "/key")
                shown = await http.get(page)
        finally:
            server.kill()

    assert stranger.status_code == 401
    assert ready.status_code == 200, ready.text
    assert (answer.structured_content or {})["charged"] == "yes"
    assert f" {page}," in (refused.structured_content or {})["next"]
    assert 'name="token"' in shown.text
    assert [charge.key for charge in sandbox.charges] == [sandbox.key]
