"""Kubernetes through the real kubectl: applied, changed, undone, deleted, on a stand-in's API.

kubectl is the one that env/test.lock brings; whoever launches so has one of 1.27 or later.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from builder.launch.deployment import Deployment
from builder.launch.platforms import k8s
from builder.launch.platforms.k8s import K8s
from builder.settings import Settings
from entrypoint.common.errors import NotReady, Refused

BIN = Path(sys.executable).parent
IMAGE, OTHER = ("registry.example.com/team/llmdeploy@sha256:" + digit * 64 for digit in "12")
APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
KINDS = {  # as a cluster's discovery tells them
    "api/v1": {"Service": "services", "Pod": "pods"},
    "apis/apps/v1": {"Deployment": "deployments"},
    "apis/autoscaling/v2": {"HorizontalPodAutoscaler": "horizontalpodautoscalers"},
    "apis/policy/v1": {"PodDisruptionBudget": "poddisruptionbudgets"},
    "apis/networking.k8s.io/v1": {"NetworkPolicy": "networkpolicies"},
}


class Cluster(http.server.ThreadingHTTPServer):
    """As much of Kubernetes' API as kubectl asks for.

    `made` has the objects by their paths, `changes` what was done to them. Deployments roll out at
    once if `ready`; a path that ends in one of `refused` is refused.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.made: dict[str, dict[str, Any]] = {}
        self.changes: list[str] = []
        self.ready, self.refused = True, ""

    @property
    def images(self) -> list[str]:
        """The images of the deployments."""
        found = [each for path, each in self.made.items() if "/deployments/" in path]
        return [each["spec"]["template"]["spec"]["containers"][0]["image"] for each in found]

    def show(self, path: str) -> dict[str, Any]:
        """Return an object as it is now."""
        return {**self.made[path], "status": self._status()} if path in self.made else {}

    def _status(self) -> dict[str, Any]:
        count = int(self.ready)
        counts = dict.fromkeys(("updatedReplicas", "readyReplicas", "availableReplicas"), count)
        return {"observedGeneration": 1, "replicas": 1, **counts}

    def keep(self, path: str, found: dict[str, Any]) -> dict[str, Any]:
        """Put an object in its place."""
        found["metadata"] |= {"uid": path, "resourceVersion": "1", "generation": 1}
        if "/deployments/" in path:
            found["spec"].setdefault("replicas", 1)
        self.made[path] = found
        return self.show(path)


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    server: Cluster
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Tell what there is."""
        url = urlsplit(self.path)
        query, words = parse_qs(url.query), url.path.strip("/").split("/")
        if url.path == "/api":
            self._say({"kind": "APIVersions", "versions": ["v1"]})
        elif url.path == "/apis":
            groups = [path.split("/")[1:] for path in KINDS if path.startswith("apis")]
            self._say({"kind": "APIGroupList", "groups": [_group(*each) for each in groups]})
        elif url.path.strip("/") in KINDS:
            self._say(_resources(url.path.strip("/")))
        elif url.path == "/openapi/v3":
            paths = {path: {"serverRelativeURL": f"/openapi/v3/{path}"} for path in KINDS}
            self._say({"paths": paths})
        elif words[:2] == ["openapi", "v3"]:
            self._say(_operations("/".join(words[2:])))
        elif url.path in self.server.made:
            self._say(self.server.show(url.path))
        elif "namespaces" in words and len(words) - words.index("namespaces") == 3:
            self._list(url.path, query)
        else:
            self._refuse(404, "NotFound")

    def do_POST(self) -> None:
        """Create an object."""
        sent = self._body()
        path = f"{urlsplit(self.path).path}/{sent['metadata']['name']}"
        if self.server.refused and self.server.refused in path:
            self._refuse(403, "Forbidden")
            return
        self.server.changes.append(f"create {path}")
        self._say(self.server.keep(path, sent), 201)

    def do_PATCH(self) -> None:
        """Change an object into what the annotation in the patch says it should be.

        Without one, it is as it should: kubectl sends the selector of a disruption budget always.
        """
        path, patch = urlsplit(self.path).path, self._body()
        if "metadata" not in patch:
            assert patch["spec"]["selector"] == self.server.made[path]["spec"]["selector"]
            self._say(self.server.show(path))
            return
        applied = patch["metadata"]["annotations"][APPLIED]
        found = json.loads(applied)
        found["metadata"].setdefault("annotations", {})[APPLIED] = applied
        self.server.changes.append(f"change {path}")
        self._say(self.server.keep(path, found))

    def do_DELETE(self) -> None:
        """Delete an object."""
        self._body()
        path = urlsplit(self.path).path
        self.server.changes.append(f"delete {path}")
        self._say(self.server.made.pop(path))

    def log_message(self, *_words: object) -> None:
        """Say nothing."""

    def _list(self, path: str, query: dict[str, list[str]]) -> None:
        name = query.get("fieldSelector", ["="])[0].partition("=")[2]
        labels = dict(
            word.split("=", 1)
            for word in ",".join(query.get("labelSelector", [])).split(",")
            if word
        )
        found = [
            self.server.show(each)
            for each, thing in self.server.made.items()
            if each.rpartition("/")[0] == path
            and name in ("", thing["metadata"]["name"])
            and labels.items() <= thing["metadata"]["labels"].items()
        ]
        if "watch" in query:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()  # nothing changes while somebody watches
            self.close_connection = True
            return
        group, plural = path.strip("/").split("/namespaces/")[0], path.rpartition("/")[2]
        kind = next(kind for kind, name in KINDS[group].items() if name == plural)
        version = group.partition("/")[2]
        meta = {"resourceVersion": "1"}
        self._say({"kind": f"{kind}List", "apiVersion": version, "metadata": meta, "items": found})

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or "null")

    def _refuse(self, code: int, reason: str) -> None:
        status = {"status": "Failure", "reason": reason, "code": code, "message": f"it is {reason}"}
        self._say({"kind": "Status", "apiVersion": "v1", **status}, code)

    def _say(self, found: Any, code: int = 200) -> None:
        content = json.dumps(found).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _group(name: str, version: str) -> dict[str, Any]:
    preferred = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [preferred], "preferredVersion": preferred}


def _resources(group: str) -> dict[str, Any]:
    verbs = ["get", "list", "watch", "create", "patch", "delete"]
    found = [
        {
            "name": name,
            "singularName": kind.lower(),
            "kind": kind,
            "namespaced": True,
            "verbs": verbs,
        }
        for kind, name in KINDS[group].items()
    ]
    version = group.partition("/")[2]
    return {"kind": "APIResourceList", "groupVersion": version, "resources": found}


def _operations(path: str) -> dict[str, Any]:
    """Return the description that tells kubectl that a cluster checks fields itself."""
    group, version = ("", path.partition("/")[2]) if path[:4] == "api/" else path.split("/")[1:]
    paths = {
        f"/{path}/namespaces/{{namespace}}/{name}/{{name}}": {
            "patch": {
                "parameters": [{"name": "fieldValidation", "in": "query"}],
                "x-kubernetes-group-version-kind": {
                    "group": group, "version": version, "kind": kind,
                },
            }
        }
        for kind, name in KINDS[path].items()
    }  # fmt: skip
    return {"openapi": "3.0.0", "info": {"title": "stand-in", "version": "1"}, "paths": paths}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Return a cluster that kubectl is set up for."""
    with Cluster() as server:
        place = f"http://127.0.0.1:{server.server_address[1]}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": {"server": place}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": ""}}],
            "current-context": "here",
        }
        (tmp_path / "config").write_text(json.dumps(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        monkeypatch.setenv("PATH", str(BIN), prepend=os.pathsep)
        monkeypatch.setenv("HOME", str(tmp_path))  # where kubectl keeps what it discovered
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def here() -> Deployment:
    secret = "chat-keys"  # noqa: S105 - a name
    return Deployment(
        name="chat", memory=3072, patience=2, tables=(K8s(secret, namespace="models"),)
    )


@pytest.fixture
def launch(tmp_path: Path) -> Callable[..., None]:
    def launch(deployment: Deployment, image: str = IMAGE) -> None:
        k8s.apply(Settings(dist=str(tmp_path / "dist")), deployment, image)

    return launch


Launch = Callable[..., None]


@pytest.mark.usefixtures("cluster")
def test_kubectl_is_the_locked_one() -> None:
    assert shutil.which("kubectl") == str(BIN / "kubectl")


def test_a_service_from_its_launch_to_its_end(
    here: Deployment,
    cluster: Cluster,
    launch: Launch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = Settings(dist=str(tmp_path / "dist"))
    launch(here)
    assert capsys.readouterr().out == "http://chat.models.svc:8000\n"
    assert len(cluster.made) == 5
    assert all("/namespaces/models/" in path for path in cluster.made)
    assert cluster.images == [IMAGE]

    cluster.changes.clear()
    launch(here)
    assert cluster.changes == [], "a second launch changed something"
    launch(here, OTHER)
    assert cluster.changes == ["change /apis/apps/v1/namespaces/models/deployments/chat"]
    assert cluster.images == [OTHER]

    capsys.readouterr()
    k8s.status(settings, here)
    assert "chat" in capsys.readouterr().out
    k8s.teardown(settings, here)
    assert cluster.made == {}
    k8s.teardown(settings, here)


def test_a_launch_that_fails_leaves_nothing(
    here: Deployment, cluster: Cluster, launch: Launch, tmp_path: Path
) -> None:
    cluster.refused = "/networkpolicies/"
    with pytest.raises(Refused, match="refused the request") as caught:
        launch(here)
    assert "Forbidden" in caught.value.why
    assert cluster.made == {}
    cluster.refused, cluster.ready = "", False
    with pytest.raises(NotReady, match="not ready within 1 seconds"):
        launch(replace(here, patience=1))
    assert cluster.made == {}
    assert not (tmp_path / "dist/launch/k8s/chat").exists()


def test_an_update_that_fails_is_taken_back(
    here: Deployment, cluster: Cluster, launch: Launch
) -> None:
    launch(here)
    cluster.ready = False
    with pytest.raises(NotReady):
        launch(replace(here, patience=1), OTHER)
    assert cluster.images == [IMAGE]


def test_what_is_of_another_deployment_stays(
    here: Deployment, cluster: Cluster, launch: Launch, tmp_path: Path
) -> None:
    launch(here)
    launch(replace(here, name="other"))
    k8s.teardown(Settings(dist=str(tmp_path / "dist")), here)
    assert {path.rpartition("/")[2] for path in cluster.made} == {"other"}


def test_a_cluster_that_does_not_answer_is_told(
    here: Deployment,
    cluster: Cluster,
    launch: Launch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cluster.server_close()
    capsys.readouterr()
    with pytest.raises(Refused) as caught:
        launch(here)
    assert "undoing" not in capsys.readouterr().err
    assert len(caught.value.why.splitlines()) == 1
    assert "kubectl config current-context" in caught.value.next
