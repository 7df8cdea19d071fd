"""The chart's committed files: what they render to is what tracegrade understands and what a closed-down pod can run."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from prometheus_client import CollectorRegistry

import graders
from collector.settings import CollectorSettings
from gate.policy import load_policy
from graders import grader_types
from store.client import Dsn
from tracegrade.admin import AdminApp
from tracegrade.config import Config, load_config

CASES = ("minimal", "external-store", "tuned")
MOUNT = "/etc/tracegrade/"
OWNED = frozenset({"data_dir", "insecure", "gate", "clickhouse", "admin", "store", "policies"})
"""Keys of the configuration that the chart sets; its checks say what to do instead."""
PROSE = frozenset({"title", "description", "default", "format"})


def rendered(chart: Path, case: str) -> dict[str, Any]:
    """The committed manifests by kind."""
    files = sorted((chart / "examples" / case / "rendered").glob("*.yaml"))
    documents = [document for file in files for document in yaml.safe_load_all(file.read_text())]
    return {document["kind"]: document for document in documents}


def rules_of(node: Any, definitions: dict[str, Any]) -> Any:
    """A JSON schema without prose, its references written out."""
    if isinstance(node, list):
        return [rules_of(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return rules_of(definitions[node["$ref"].rsplit("/", 1)[1]], definitions)
    bare = {key: rules_of(value, definitions) for key, value in node.items() if key not in PROSE | {"properties"}}
    if "properties" in node:
        bare["properties"] = {name: rules_of(value, definitions) for name, value in node["properties"].items()}
    return bare


def test_config_is_checked_by_tracegrades_own_rules(chart: Path) -> None:
    """`UPDATE_GOLDEN=1` writes them into the schema."""
    model = Config.model_json_schema()
    rules = rules_of({key: value for key, value in model.items() if key != "$defs"}, model["$defs"])
    rules["properties"] |= {key: {"description": "Set by the chart."} for key in sorted(OWNED)}
    path = chart / "values.schema.json"
    schema = json.loads(path.read_text())
    if os.environ.get("UPDATE_GOLDEN"):
        schema["properties"]["config"] = rules
        path.write_text(json.dumps(schema, indent=2) + "\n")
    assert schema["properties"]["config"] == rules


def test_every_key_the_chart_sets_is_refused_in_config(chart: Path) -> None:
    checks = (chart / "templates" / "_checks.tpl").read_text()
    addresses = {name for name in CollectorSettings.model_fields if name.endswith(("_host", "_port", "_dir"))}
    assert [key for key in OWNED | addresses if f'"{key}"' not in checks] == []


def test_the_defaults_lack_only_an_image(chart: Path) -> None:
    values = yaml.safe_load((chart / "values.yaml").read_text())
    jsonschema_rs.validator_for(json.loads((chart / "values.schema.json").read_text())).validate(values)
    assert values["image"]["repository"] == ""
    assert values["networkPolicy"]["enabled"] is True


@pytest.mark.parametrize("case", CASES)
def test_tracegrade_takes_the_configuration(chart: Path, case: str, tmp_path: Path) -> None:
    manifests = rendered(chart, case)
    for name, text in manifests["ConfigMap"]["data"].items():
        (tmp_path / name).write_text(text)
    config = load_config(tmp_path / "tracegrade.yaml", {})
    assert config.insecure
    assert {str(path.parent) + "/" for path in config.policies} <= {MOUNT}
    for path in config.policies:
        load_policy(tmp_path / path.name, grader_types())
    for policy in config.grading.agent_policies:
        assert str(policy) == MOUNT + policy.name
        graders.load_policy(tmp_path / policy.name)
    used = {"tracegrade.yaml", *(p.name for p in (*config.policies, *config.grading.agent_policies))}
    assert set(manifests["ConfigMap"]["data"]) == used


@pytest.mark.parametrize("case", CASES)
def test_every_port_is_the_one_tracegrade_listens_on(chart: Path, case: str, tmp_path: Path) -> None:
    manifests = rendered(chart, case)
    (tmp_path / "tracegrade.yaml").write_text(manifests["ConfigMap"]["data"]["tracegrade.yaml"])
    config = load_config(tmp_path / "tracegrade.yaml", {})
    listens = {
        "otlp-grpc": (config.collector.grpc_host, config.collector.grpc_port),
        "otlp-http": (config.collector.http_host, config.collector.http_port),
        "gate": (config.gate.host, config.gate.port),
        "gate-grpc": (config.gate.host, config.gate.grpc_port),
        "clickhouse": (config.clickhouse.host, config.clickhouse.port),
        "admin": (config.admin.host, config.admin.port),
    }
    if case == "external-store":
        assert listens.pop("clickhouse")[0] == "127.0.0.1"
    (container,) = manifests["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    assert {port["name"]: ("0.0.0.0", port["containerPort"]) for port in container["ports"]} == listens
    service = manifests["Service"]["spec"]["ports"]
    assert {port["targetPort"]: ("0.0.0.0", port["port"]) for port in service} == listens
    if case != "tuned":
        (rule,) = manifests["NetworkPolicy"]["spec"]["ingress"]
        assert {port["port"] for port in rule["ports"]} == set(listens)


@pytest.mark.parametrize("case", CASES)
def test_the_pod_is_closed_and_can_still_write_where_it_must(chart: Path, case: str) -> None:
    manifests = rendered(chart, case)
    stateful = manifests["StatefulSet"]["spec"]
    pod = stateful["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["enableServiceLinks"] is False, "TRACEGRADE_PORT=tcp://… would be read as configuration"
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    volumes = {"data", *(volume["name"] for volume in pod["volumes"])}
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert set(mounts.values()) == volumes
    config = yaml.safe_load(manifests["ConfigMap"]["data"]["tracegrade.yaml"])
    assert mounts[config["data_dir"]] == stateful["volumeClaimTemplates"][0]["metadata"]["name"]
    drain = config.get("collector", {}).get("drain_seconds", CollectorSettings().drain_seconds)
    assert pod["terminationGracePeriodSeconds"] >= drain + 20
    assert stateful["replicas"] == 1


@pytest.mark.parametrize("case", CASES)
def test_probes_ask_the_admin_listener(chart: Path, case: str) -> None:
    (container,) = rendered(chart, case)["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    health, readiness = {"path": "/healthz", "port": "admin"}, {"path": "/readyz", "port": "admin"}
    assert probes == {"startup": health, "liveness": health, "readiness": readiness}
    asked = AdminApp(CollectorRegistry(), lambda: ["a reason"])
    for probe, code in ((health, 200), (readiness, 503)):
        sent: list[Any] = []

        async def send(message: Any, sent: list[Any] = sent) -> None:
            sent.append(message)

        scope = {"method": "GET", "path": probe["path"], "headers": []}
        asyncio.run(asked(scope, None, send))  # type: ignore[arg-type]
        assert sent[0]["status"] == code


def test_the_store_comes_from_a_secret_and_nowhere_else(chart: Path) -> None:
    environments = {}
    for case in CASES:
        (container,) = rendered(chart, case)["StatefulSet"]["spec"]["template"]["spec"]["containers"]
        environments[case] = {entry["name"]: entry for entry in container["env"]}
    given = {case: found["TRACEGRADE_STORE"]["valueFrom"] for case, found in environments.items() if len(found) > 1}
    assert given == {"external-store": {"secretKeyRef": {"name": "clickhouse", "key": "dsn"}}}
    dsn = load_config(None, {"TRACEGRADE_STORE": "clickhouse://user:password@host:8123/tracegrade"}).dsn
    assert not Dsn.parse(dsn).embedded


def test_only_the_namespace_and_named_peers_are_admitted(chart: Path) -> None:
    peers = {
        case: rendered(chart, case).get("NetworkPolicy", {}).get("spec", {}).get("ingress", [{}])[0].get("from")
        for case in CASES
    }
    assert peers["minimal"] == [{"podSelector": {}}]
    agents = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "agents"}}}
    assert peers["external-store"] == [{"podSelector": {}}, agents]
    assert peers["tuned"] is None


@pytest.mark.parametrize("folder", ["helm", "proto"])
def test_no_python_beside_charts_and_contracts(chart: Path, folder: str) -> None:
    """The repository root is importable, and other distributions own `import helm` and `import proto`."""
    assert [str(path) for path in (chart.parents[1] / folder).rglob("*.py")] == []
