"""The doors: what a request needs to come in, and what its caller learns where it does not."""

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pydantic_core
import pytest
import respx

from tests.transports.sign_in.scene import (
    BOTH,
    MAX_BYTES,
    OWN,
    READER,
    Issuer,
    Scene,
    opened,
    trust,
)
from wan_mcp.server import build_server
from wan_mcp.settings import Settings
from wan_mcp.tenants.caller import MAKE, READ
from wan_mcp.transports.sign_in.scopes import READING_TOOLS, needed

pytestmark = pytest.mark.anyio

METADATA_PATH = "/.well-known/oauth-protected-resource/mcp"
WHERE = f'resource_metadata="https://wan.example.com{METADATA_PATH}"'
WRONG = 'Bearer error="invalid_token", error_description="The access token is not valid here, '
BUY = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "replace_character"}}
LOOK = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "list_jobs"}}


async def test_first_challenge_names_both_scopes_and_the_metadata(scene: Scene) -> None:
    """Without a token there is no error code (documented: RFC 6750)."""
    answer = await scene.ask()

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == f'Bearer scope="{BOTH}", {WHERE}'


async def test_metadata_are_those_of_the_setting_whatever_host_was_asked(scene: Scene) -> None:
    """The address of the resource never comes from the request (ours)."""
    answer = await scene.client.get(METADATA_PATH, headers={"host": "evil.example"})

    assert answer.json() == {
        "resource": "https://wan.example.com/mcp",
        "authorization_servers": ["https://login.example.com"],
        "scopes_supported": ["videos:read", "videos:make"],
        "bearer_methods_supported": ["header"],
        "resource_name": "wan-mcp",
    }


async def test_the_door_for_own_tokens_advertises_no_issuer(scene: Scene) -> None:
    """Some programs ignore the token in their settings otherwise (observed elsewhere)."""
    answer = await scene.ask(path="/token/mcp")

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == f'Bearer scope="{BOTH}"'
    for path in ("", "/token/mcp"):
        found = await scene.client.get(f"/.well-known/oauth-protected-resource{path}")
        assert found.status_code == 404


async def test_a_token_of_an_issuer_lets_its_user_in_with_its_scopes(scene: Scene) -> None:
    """The token itself goes no further: nothing behind the door could pass it on (documented)."""
    answer = await scene.ask(scene.issuer.token(scope="openid videos:read"))

    assert answer.json() == {
        "user": "u-ada",
        "scopes": ["videos:read"],
        "client": "an-assistant",
        "token": "",
        "bytes": 46,
    }


@pytest.mark.parametrize("path", ["/mcp", "/token/mcp"])
async def test_an_own_token_is_good_at_both_doors(scene: Scene, path: str) -> None:
    assert (await scene.ask(OWN, path)).json()["user"] == "u-ada"


async def test_a_token_of_an_issuer_is_wrong_at_the_door_for_own_tokens(
    scene: Scene, keys: respx.Route
) -> None:
    answer = await scene.ask(scene.issuer.token(), "/token/mcp")

    assert answer.status_code == 401
    assert keys.call_count == 0


async def test_without_issuers_own_tokens_alone_count_and_nothing_else_is_advertised() -> None:
    async with opened(None) as scene:
        assert (await scene.ask(OWN)).status_code == 200
        assert (await scene.ask(Issuer().token())).status_code == 401
        assert (await scene.ask()).headers["www-authenticate"] == f'Bearer scope="{BOTH}"'
        assert (await scene.client.get(METADATA_PATH)).status_code == 404


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer  "])
async def test_the_scheme_may_be_spelt_in_any_case(scene: Scene, scheme: str) -> None:
    answer = await scene.ask(headers={"Authorization": f"{scheme} {OWN}"})

    assert answer.status_code == 200


@pytest.mark.parametrize("given", ["", "Basic QWRhOmE=", OWN, f"Token {OWN}", "Bearer", "Bearer "])
async def test_what_is_no_bearer_token_counts_as_none(scene: Scene, given: str) -> None:
    answer = await scene.ask(headers={"Authorization": given})

    assert answer.status_code == 401
    assert "error=" not in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    "token",
    [
        "a b",
        f"{OWN}, Bearer {OWN}",
        f"{OWN};",
        'x"; scope="videos:make',
        "\u00fcber",
        "a" * 8193,
        "wan_" + "a" * 8000,
        "a.b.c",
        "..",
        "=",
        "wan_ada_wrong",
    ],
)
async def test_a_token_that_is_wrong_is_answered_with_one_sentence(
    scene: Scene, token: str
) -> None:
    """It does not say what is wrong with it, and repeats nothing of it (ours)."""
    answer = await scene.ask(headers={"Authorization": f"Bearer {token}".encode()})

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == (
        f'{WRONG}or it has expired.", scope="{BOTH}", {WHERE}'
    )
    assert answer.json()["error"] == "invalid_token"


async def test_two_authorization_headers_are_refused(scene: Scene) -> None:
    """A proxy might have checked the other one (ours)."""
    both = [("Authorization", f"Bearer {OWN}"), ("Authorization", f"Bearer {READER}")]
    answer = await scene.client.post("/mcp", headers=both, json=LOOK)

    assert answer.status_code == 400
    assert scene.people.asked == []


CLAIMS = {
    "x-user": "u-ada",
    "x-forwarded-user": "u-ada",
    "x-remote-user": "u-ada",
    "remote-user": "u-ada",
    "x-auth-request-user": "u-ada",
    "x-amzn-oidc-identity": "u-ada",
    "mcp-user": "u-ada",
    "cookie": f"access_token={OWN}",
    "x-forwarded-access-token": OWN,
    "proxy-authorization": f"Bearer {OWN}",
    "x-authorization": f"Bearer {OWN}",
    "x-original-authorization": f"Bearer {OWN}",
}


async def test_no_other_header_says_who_calls(scene: Scene) -> None:
    """Anybody can send them (ours)."""
    assert (await scene.ask(headers=CLAIMS)).status_code == 401
    assert (await scene.ask(READER, headers=CLAIMS)).json()["user"] == "u-bob"


async def test_a_token_in_the_address_or_the_body_is_none(scene: Scene) -> None:
    """Both end in logs (documented: 2025-11-25)."""
    in_query = await scene.ask(path=f"/mcp?access_token={OWN}")
    in_form = await scene.client.post("/mcp", data={"access_token": OWN})

    assert [in_query.status_code, in_form.status_code] == [401, 401]


@pytest.mark.parametrize("token", [OWN, Issuer().token()])
async def test_who_cannot_be_known_now_is_asked_to_come_back(scene: Scene, token: str) -> None:
    """A client would throw its token away on 401 (observed elsewhere)."""
    scene.people.down = True
    answer = await scene.ask(token)

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert "www-authenticate" not in answer.headers


async def test_a_person_who_is_no_user_is_refused_without_a_challenge(scene: Scene) -> None:
    """Another token would not help (ours)."""
    answer = await scene.ask(scene.issuer.token(sub="sub-eve"))

    assert answer.status_code == 403
    assert "www-authenticate" not in answer.headers


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "OPTIONS"])
async def test_every_method_needs_a_token(scene: Scene, method: str) -> None:
    """Also those that the app behind the door refuses (ours)."""
    assert (await scene.client.request(method, "/mcp")).status_code == 401


MESSAGES: dict[str, tuple[object, str]] = {
    "a tool that reads": (LOOK, READ),
    "a tool that buys": (BUY, MAKE),
    "a tool that withdraws": ({**BUY, "params": {"name": "cancel_job"}}, MAKE),
    "a tool that is new": ({**BUY, "params": {"name": "another"}}, MAKE),
    "a tool without a name": ({**BUY, "params": {}}, MAKE),
    "a tool whose name is no text": ({**BUY, "params": {"name": ["list_jobs"]}}, MAKE),
    "a call without parameters": ({**BUY, "params": None}, MAKE),
    "another method": ({**BUY, "method": "resources/read"}, READ),
    "the cancel of a task": ({**BUY, "method": "tasks/cancel"}, MAKE),
    "a method that is no text": ({**BUY, "method": ["tools/call"]}, MAKE),
    "an answer": ({"jsonrpc": "2.0", "id": 1, "result": {}}, READ),
    "a batch": ([LOOK, BUY], MAKE),
    "a text": ("tools/call", MAKE),
}


@pytest.mark.parametrize("name", MESSAGES)
async def test_each_message_needs_the_scope_of_what_it_does(scene: Scene, name: str) -> None:
    """Whatever is not known to read needs the scope for buying (ours)."""
    message, scope = MESSAGES[name]
    answers = [await scene.ask(token, json=message) for token in (READER, OWN)]

    assert [each.status_code for each in answers] == [200 if scope == READ else 403, 200]


async def test_a_call_beyond_the_token_names_all_scopes_that_it_needs(scene: Scene) -> None:
    """Some clients ask for exactly the scopes that are named (documented: 2025-11-25)."""
    answer = await scene.call(scene.issuer.token(scope="videos:read"), "replace_character")

    assert answer.status_code == 403
    assert answer.headers["www-authenticate"] == (
        'Bearer error="insufficient_scope", error_description="The access token does not allow '
        f'this. Sign in again with more scopes.", scope="{BOTH}", {WHERE}'
    )


async def test_a_token_without_our_scopes_may_not_even_read(scene: Scene) -> None:
    answer = await scene.ask(scene.issuer.token(scope="openid profile"))

    assert answer.status_code == 403
    assert f'scope="{READ}"' in answer.headers["www-authenticate"]


async def test_who_may_buy_may_read(scene: Scene) -> None:
    """(documented: hierarchies of scopes)"""
    assert (await scene.ask(scene.issuer.token(scope=MAKE))).status_code == 200


UNREADABLE: dict[str, bytes | str] = {
    "a number of 5,000 digits": json.dumps(BUY).replace('"id": 1', f'"id": 1, "x": {"1" * 5000}'),
    "another encoding": json.dumps(LOOK).encode("utf-32")[:-2],
    "nested too deep": "[" * 4000,
    "no JSON": "buy!",
    "half a message": json.dumps(LOOK)[:-1],
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_a_body_that_cannot_be_read_needs_every_scope(name: str) -> None:
    """Another parser behind the door might read it (ours)."""
    text = UNREADABLE[name]
    assert needed(text.encode() if isinstance(text, str) else text) == (READ, MAKE)


async def test_a_member_that_occurs_twice_is_read_as_the_app_reads_it(scene: Scene) -> None:
    """The last one counts, for both parsers of the SDK (ours)."""
    body = '{"method": "tools/call", "params": {"name": "list_jobs", "name": "replace_character"}}'

    assert pydantic_core.from_json(body)["params"]["name"] == "replace_character"
    answer = await scene.ask(READER, json=None, content=body)
    assert answer.status_code == 403


async def test_a_body_arrives_whole_behind_the_door(scene: Scene) -> None:
    """Also one that is too long to be looked at, which is for the app to refuse (ours)."""
    long = {**LOOK, "x": "x" * 3 * MAX_BYTES}
    answers = [await scene.ask(OWN, json=message) for message in (LOOK, long)]

    sizes = [len(json.dumps(each, separators=(",", ":"))) for each in (LOOK, long)]
    assert [each.json()["bytes"] for each in answers] == sizes
    assert (await scene.ask(READER, json=long)).status_code == 403


@pytest.mark.parametrize(
    ("token", "down", "status"), [(None, False, 401), ("wrong", False, 401), (OWN, True, 503)]
)
@pytest.mark.parametrize(("sent", "taken"), [(0, 0), (8, 8), (9, 9), (20, 9)])
async def test_a_refusal_comes_after_the_end_of_its_request_unless_it_is_long(
    scene: Scene, token: str | None, down: bool, status: int, sent: int, taken: int
) -> None:
    """Caddy may break off an answer that comes before it (observed); eight parts are the most."""
    scene.people.down = down
    arrived = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal arrived
        for _ in range(sent):
            arrived += 1
            yield b"x" * (MAX_BYTES // 8)

    answer = await scene.ask(token, json=None, content=body())

    assert (answer.status_code, arrived) == (status, taken)


async def test_headers_that_name_a_tool_do_not_count(scene: Scene) -> None:
    """The app could execute what the body says (ours)."""
    headers = {"mcp-method": "tools/call", "mcp-name": "list_jobs"}
    assert (await scene.ask(READER, json=BUY, headers=headers)).status_code == 403


async def test_the_reading_tools_are_those_that_say_so() -> None:
    """A tool that changes something must not be called with a token for reading (ours)."""
    tools = await build_server(Settings()).list_tools()
    reading = {tool.name for tool in tools if tool.annotations and tool.annotations.read_only_hint}

    assert reading == READING_TOOLS


async def test_scopes_are_asked_for_by_the_names_that_the_issuer_wants(
    keys: respx.Route,
) -> None:
    """One vendor has the address of the application before each scope (observed elsewhere)."""
    async with opened(trust(scope_prefix="api://wan/")) as scene:
        answer = await scene.ask()
        long = await scene.call(scene.issuer.token(scope="api://wan/videos:make"), "keep_video")
        short = await scene.call(scene.issuer.token(scp=[MAKE], scope=None), "keep_video")

    named = 'scope="api://wan/videos:read api://wan/videos:make"'
    assert named in answer.headers["www-authenticate"]
    assert [long.status_code, short.status_code] == [200, 200]


async def test_nothing_of_a_token_is_in_an_answer_or_in_the_log(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """Logs are read by more people than a token is for (ours)."""
    caplog.set_level(logging.DEBUG)
    good = scene.issuer.token()
    tokens = [OWN, READER, good, good[:-8] + "AAAAAAAA", scene.issuer.token(aud="x"), f"{OWN}x"]
    answers: list[Any] = [await scene.call(token, "keep_video") for token in tokens]
    scene.people.down = True
    answers += [await scene.call(token, "keep_video") for token in tokens]

    seen = "".join([caplog.text, *(f"{each.headers} {each.text}" for each in answers)])
    assert [token for token in tokens if token in seen or token.rpartition(".")[2] in seen] == []
