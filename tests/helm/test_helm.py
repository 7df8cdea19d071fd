"""The chart through Helm's own binary: what it renders, what it refuses, what it says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CASES = ("minimal", "external-store", "tuned")
IMAGE = {"image": {"repository": "registry.example/tracegrade"}}

Helm = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("case", CASES)
def test_lint_has_nothing_to_say(helm: Helm, chart: Path, case: str) -> None:
    done = helm("lint", chart, "--strict", "--quiet", "--values", chart / "examples" / case / "values.yaml")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("case", CASES)
def test_the_committed_manifests_are_what_helm_renders(helm: Helm, chart: Path, case: str, tmp_path: Path) -> None:
    """`UPDATE_GOLDEN=1` writes them."""
    example = chart / "examples" / case
    values = ("--namespace", "agents", "--values", example / "values.yaml")
    done = helm("template", "tracegrade", chart, *values, "--output-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    new = tmp_path / "tracegrade" / "templates"
    if os.environ.get("UPDATE_GOLDEN"):
        shutil.rmtree(example / "rendered", ignore_errors=True)
        shutil.copytree(new, example / "rendered")
    texts = {path.name: path.read_text() for path in new.iterdir()}
    assert texts == {path.name: path.read_text() for path in (example / "rendered").iterdir()}


@pytest.mark.parametrize("case", CASES)
def test_kubernetes_knows_every_field(chart: Path, case: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="`make integration` installs Kubernetes' schemas")
    for path in (chart / "examples" / case / "rendered").iterdir():
        for document in yaml.safe_load_all(path.read_text()):
            validate.validate(document, "1.30", strict=True)


BAD: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["image.repository is required: no image is published"]),
    (
        {
            "replicas": 3,
            "networkPolicy": {"enabled": False, "from": [{"podSelector": {}}]},
            "agentPolicies": {"both.yaml": "a", "tracegrade.yaml": "b"},
            "policies": {"both.yaml": "a", "tracegrade.yaml": "b"},
            "config": {
                "data_dir": "/data",
                "store": "clickhouse://u:p@h/d",
                "insecure": False,
                "gate": {"port": 1},
                "clickhouse": {"port": 2},
                "admin": {"port": 3},
                "policies": ["a.yaml"],
                "grading": {"agent_policies": ["a.yaml"]},
                "collector": {"buffer_dir": "/b", "grpc_host": "::", "grpc_port": 1, "http_host": "::", "http_port": 1},
            },
        },
        [
            "image.repository is required",
            "replicas: 3 cannot be: the embedded database belongs to one process",
            "networkPolicy.from has no effect while networkPolicy.enabled is false",
            "agentPolicies: policies has a file named both.yaml, too",
            "agentPolicies: the file name tracegrade.yaml is taken",
            "tracegrade.yaml is taken by tracegrade's configuration",
            "config.data_dir cannot be set: the chart mounts the volume there",
            "config.store cannot be set: a DSN holds a password",
            "config.insecure cannot be set",
            "config.gate cannot be set",
            "config.clickhouse cannot be set",
            "config.admin cannot be set",
            "config.policies cannot be set",
            "config.grading.agent_policies cannot be set",
            "config.collector.buffer_dir cannot be set",
            "config.collector.grpc_host cannot be set",
            "config.collector.grpc_port cannot be set",
            "config.collector.http_host cannot be set",
            "config.collector.http_port cannot be set",
        ],
    ),
    (IMAGE | {"replicas": 2, "store": {"existingSecret": "x"}}, ["replicas: 2 cannot be: decisions form one chain"]),
    (
        {
            "image": {"repo": "x", "pullPolicy": "Sometimes"},
            "replicaCount": 2,
            "replicas": -1,
            "store": {"existingSecret": "Not A Name"},
            "persistence": {"size": "lots"},
            "policies": {"../x": "y", "empty": ""},
            "networkPolicy": {"from": [{"namespace": "agents"}]},
            "config": {"retention_days": 0, "colector": {}, "grading": {"idle_seconds": "soon"}},
        },
        [
            "'repo' not allowed",
            "'replicaCount' not allowed",
            "'namespace' not allowed",
            "'colector' not allowed",
            "/image/pullPolicy",
            "/replicas",
            "/store/existingSecret",
            "/persistence/size",
            "/policies",
            "/policies/empty",
            "/config/retention_days",
            "/config/grading/idle_seconds",
        ],
    ),
    (IMAGE | {"config": "retention_days: 1"}, ["/config"]),
    (IMAGE | {"policies": {"a.yaml": {"name": "a"}}}, ["/policies/a.yaml"]),
    ({"image": {"repository": "x\n  evil: true"}}, ["/image/repository"]),
]


def template(helm: Helm, chart: Path, values: dict[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "values.json").write_text(json.dumps(values, ensure_ascii=False))
    return helm("template", "tracegrade", chart, "--namespace", "agents", "--values", folder / "values.json")


@pytest.mark.parametrize(("values", "messages"), BAD)
def test_bad_values_are_refused_with_every_message_at_once(
    helm: Helm, chart: Path, tmp_path: Path, values: dict[str, Any], messages: list[str]
) -> None:
    done = template(helm, chart, values, tmp_path)
    assert done.returncode != 0
    assert done.stdout == ""
    assert [message for message in messages if message not in done.stderr] == []


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True).map(lambda name: f"p-{name}"),
        st.text(st.characters(exclude_categories=("Cc", "Cn", "Cs"), include_characters="\n\t"), min_size=1),
        min_size=1,
        max_size=3,
    )
)
def test_the_text_of_policies_arrives_as_it_was_given(
    helm: Helm, chart: Path, tmp_path: Path, policies: dict[str, str]
) -> None:
    done = template(helm, chart, IMAGE | {"policies": policies}, tmp_path)
    assert done.returncode == 0, done.stderr
    kinds = {document["kind"]: document for document in yaml.safe_load_all(done.stdout)}
    data = kinds["ConfigMap"]["data"]
    config = yaml.safe_load(data.pop("tracegrade.yaml"))
    assert data == policies
    assert sorted(config["policies"]) == sorted(f"/etc/tracegrade/{name}" for name in policies)


def test_a_changed_configuration_restarts_the_pod(helm: Helm, chart: Path, tmp_path: Path) -> None:
    def annotations(values: dict[str, Any]) -> Any:
        done = template(helm, chart, IMAGE | values, tmp_path)
        kinds = {document["kind"]: document for document in yaml.safe_load_all(done.stdout)}
        return kinds["StatefulSet"]["spec"]["template"]["metadata"]["annotations"]

    assert annotations({}) == annotations({"persistence": {"size": "1Gi"}})
    assert annotations({}) != annotations({"config": {"retention_days": 7}})


def test_it_can_be_a_subchart(helm: Helm, chart: Path, tmp_path: Path) -> None:
    assert template(helm, chart, IMAGE | {"global": {"region": "x"}}, tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("values", "says", "never"),
    [
        ({}, "`insecure: true`", "WARNING"),
        ({"networkPolicy": {"enabled": False}}, "WARNING: networkPolicy.enabled is false", "keeps"),
        ({"store": {"existingSecret": "s"}}, "tracegrade.agents.svc:4317", "8123"),
    ],
)
def test_the_notes_say_who_may_call(
    helm: Helm, chart: Path, tmp_path: Path, values: dict[str, Any], says: str, never: str
) -> None:
    """Helm prints notes only for an install, which needs a cluster; so a copy of the chart renders them as a manifest."""
    copy = Path(shutil.copytree(chart, tmp_path / "chart"))
    (copy / "templates" / "NOTES.txt").rename(copy / "notes.txt")
    manifest = 'apiVersion: v1\nkind: Notes\ntext: {{ tpl (.Files.Get "notes.txt") . | quote }}\n'
    (copy / "templates" / "notes.yaml").write_text(manifest)
    done = template(helm, copy, IMAGE | values, tmp_path)
    kinds = {document["kind"]: document for document in yaml.safe_load_all(done.stdout)}
    assert says in kinds["Notes"]["text"]
    assert never not in kinds["Notes"]["text"]
