# SPDX-License-Identifier: Apache-2.0
"""The YAML that people apply is what Kustomize makes of deploy/kubernetes, and names this version."""

import pathlib
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
MANIFESTS = {"tendril.yaml": "", "tendril-uninstall.yaml": "uninstall"}


def rendered(folder):
    done = subprocess.run(["kubectl", "kustomize", ROOT / "deploy/kubernetes" / folder], text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def by_name(objects):
    return {(one["kind"], one["metadata"]["name"]): one for one in objects}


def checked_in(name):
    return list(yaml.safe_load_all((ROOT / "deploy/kubernetes" / name).read_text()))


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_checked_in_yaml_is_what_kustomize_renders(name):
    assert by_name(checked_in(name)) == by_name(rendered(MANIFESTS[name])), "run make golden"


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_container_runs_this_version(name):
    version = (ROOT / "VERSION").read_text().strip()
    pods = [one["spec"]["template"]["spec"] for one in checked_in(name)
            if one["kind"] == "DaemonSet"]
    images = {container["image"] for pod in pods
              for container in pod["containers"] + pod["initContainers"]}
    assert images == {f"localhost/tendril:{version}"}


def test_the_agent_gets_the_capabilities_that_it_keeps():
    source = (ROOT / "agent/privilege.c").read_text()
    pod = by_name(checked_in("tendril.yaml"))["DaemonSet", "tendril"]["spec"]["template"]["spec"]
    agent, = (one for one in pod["containers"] if one["name"] == "agent")
    capabilities = agent["securityContext"]["capabilities"]
    assert capabilities["drop"] == ["ALL"]
    assert all(f'"CAP_{name}"' in source for name in capabilities["add"])
    assert len(capabilities["add"]) == source.count('\t{ "CAP_')


SOCKET_DIRS = {"client": "/run/tendril/kube", "http": "/run/tendril/http"}


def test_who_reads_from_a_network_sees_its_own_socket_alone():
    pod = by_name(checked_in("tendril.yaml"))["DaemonSet", "tendril"]["spec"]["template"]["spec"]
    volumes = {one["name"]: one.get("hostPath", {}).get("path") for one in pod["volumes"]}
    for container in pod["containers"]:
        if container["name"] in SOCKET_DIRS:
            mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]
                      if volumes[mount["name"]]}
            assert mounts == {SOCKET_DIRS[container["name"]]: SOCKET_DIRS[container["name"]]}
    for name, folder in (("tendril-kube", "kube"), ("tendril-http", "http")):
        unit = (ROOT / f"deploy/{name}.service").read_text().splitlines()
        assert "TemporaryFileSystem=/run/tendril:ro" in unit
        assert f"BindReadOnlyPaths=/run/tendril/{folder}" in unit


def test_only_the_client_has_a_token_and_only_the_init_container_is_privileged():
    pod = by_name(checked_in("tendril.yaml"))["DaemonSet", "tendril"]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"] + pod["initContainers"]:
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert ("token" in mounted) == (container["name"] == "client")
        context = container["securityContext"]
        assert bool(context.get("privileged")) == (container["name"] == "mounts")
        assert context["readOnlyRootFilesystem"] is True
        assert container["resources"]["requests"]
