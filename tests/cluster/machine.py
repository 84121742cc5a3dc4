"""One Kubernetes node: its servers, each a process, in namespaces that end with the test run.

Nothing is left behind: the processes, the network and the mounts are in namespaces whose first
process reads from this one, so that they go when it does, whatever ends it. There is no
kube-proxy: the API server has the address of its Service, and other Services are found by name
at the pods themselves (`names.py`).
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.cluster import images, parts

_PODS = "10.244.0.0/16"
_HOST = "10.244.0.1"
_API = "10.96.0.1"
_SERVICES = "10.96.0.0/16"
_SOCKET = "/run/containerd.sock"
_ETCD = "http://127.0.0.1:2379"
NODE = "node"


class Failed(Exception):
    """The cluster did not do what was asked; the message says what it answered."""


class Machine:
    """Namespaces for processes, mounts and network, with `/run` and `/var/log` of their own."""

    def __init__(self) -> None:
        script = (
            "ip link set lo up && mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/log "
            "&& echo ready && cat"
        )
        self._first = subprocess.Popen(
            [
                *("unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc"),
                *("sh", "-c", script),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._first.stdout is not None
        if self._first.stdout.readline() != "ready\n":
            pytest.skip("namespaces for processes, mounts and network are not allowed here")
        self._servers: list[subprocess.Popen[bytes]] = []

    def inside(self, *command: str | pathlib.Path) -> list[str]:
        """Returns a command that runs `command` in the namespaces."""
        first = self._first.pid
        children = f"--pid=/proc/{first}/ns/pid_for_children"
        enter = ["nsenter", f"--target={first}", "--mount", "--net", children]
        return [*enter, *map(str, command)]

    def run(self, *command: str | pathlib.Path, **options: object) -> str:
        """Returns what a command printed."""
        return parts.run(*self.inside(*command), **options)

    def start(self, log: pathlib.Path, *command: str | pathlib.Path, **options: Any) -> None:
        """Starts a server that goes on; what it prints goes to `log`."""
        with log.open("wb") as out:
            server = subprocess.Popen(
                self.inside(*command),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                **options,
            )
        self._servers.append(server)

    def stop(self) -> None:
        """Ends everything that was started."""
        assert self._first.stdin is not None
        self._first.stdin.close()
        try:
            self._first.wait(20)
        except subprocess.TimeoutExpired:
            self._first.kill()
            self._first.wait()
        for server in self._servers:
            server.wait()


def wait(what: str, seconds: float, done: Callable[[], Any]) -> Any:
    """Returns what `done` returns once it is true; asks twice a second.

    Raises:
        Failed: it was not within `seconds`.
    """
    until = time.monotonic() + seconds
    while not (found := done()):
        if time.monotonic() > until:
            raise Failed(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.5)
    return found


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the API server said to one command."""

    code: int
    out: str
    error: str

    def object(self) -> dict[str, Any]:
        """Returns the object it answered with.

        Raises:
            Failed: it refused.
        """
        if self.code:
            raise Failed(self.error.strip())
        found: dict[str, Any] = json.loads(self.out)
        return found


class Cluster:
    """A running control plane with one node.

    Args:
        cache: The folder with what was built; also keeps the node's images.
        work: An empty folder for this run: certificates, settings and logs.
    """

    def __init__(self, cache: pathlib.Path, work: pathlib.Path) -> None:
        self.cache = cache
        self.work = work
        self.programs = parts.programs(cache)
        self._debian = parts.debian(cache)
        self.logs = work / "logs"
        self.logs.mkdir()
        self.machine = Machine()

    def start(self) -> None:
        """Starts all servers and waits until the node takes pods."""
        self._network()
        self._certify()
        self._control_plane()
        self._runtime()
        self._node()

    def stop(self) -> None:
        """Ends all servers and pods."""
        self.machine.stop()

    def kubectl(self, *words: str | pathlib.Path, given: Any = None) -> Answer:
        """Asks the API server.

        Args:
            words: Of the command.
            given: What it reads from standard input: text, or an object that is sent as JSON.
        """
        text = given if given is None or isinstance(given, str) else json.dumps(given)
        done = subprocess.run(
            self.machine.inside(
                self.programs / "kubectl", "--kubeconfig", self.work / "kubeconfig", *words
            ),
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def create(self, *words: str, given: Any) -> dict[str, Any]:
        """Creates an object, or only asks whether it could be (`--dry-run=server`)."""
        return self.kubectl(
            *("create", "--filename=-", "--validate=strict", "--output=json", *words), given=given
        ).object()

    def namespace(self, name: str, labels: Mapping[str, str]) -> None:
        """Makes a namespace that pods can be created in."""
        metadata = {"name": name, "labels": labels}
        self.create(given={"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        account = ("get", "serviceaccount", "default", f"--namespace={name}")
        wait(f"the account of {name}", 30, lambda: self.kubectl(*account).code == 0)

    def volume(
        self, folder: pathlib.Path, namespace: str, claim: str, storage_class: str = ""
    ) -> None:
        """Offers a folder of this machine to one claim, or to any claim of a storage class."""
        here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}
        spec: dict[str, Any] = {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "10Gi"},
            # Unlike those of hostPath, volumes that are local are given to a pod's fsGroup.
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            "storageClassName": storage_class,
        }
        if not storage_class:
            spec["claimRef"] = {"namespace": namespace, "name": claim}
        metadata = {"name": f"{namespace}-{claim}"}
        self.create(
            given={
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": metadata,
                "spec": spec,
            }
        )

    def claim(self, namespace: str, name: str) -> None:
        """Claims the volume that was offered for it."""
        spec = {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "10Gi"}},
            "storageClassName": "",
        }
        self.create(
            f"--namespace={namespace}",
            given={
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name},
                "spec": spec,
            },
        )

    def run(self, namespace: str, pod: Mapping[str, Any], seconds: float) -> tuple[int, str]:
        """Runs a pod to its end; returns its exit code and what it wrote.

        Raises:
            Failed: it did not start, or did not end within `seconds`.
        """
        name = self.create(f"--namespace={namespace}", given=pod)["metadata"]["name"]
        place = (f"--namespace={namespace}", "pod", name)

        def ended() -> dict[str, Any] | None:
            found = self.get(*place)
            return found if found["status"]["phase"] in ("Succeeded", "Failed") else None

        try:
            found = wait(f"pod {name}", seconds, ended)
        except Failed as error:
            events = self.kubectl("describe", *place).out.partition("\nConditions:")[2]
            raise Failed(f"{error}\n{events}\n{self.logs_of(*place)}") from error
        (status,) = found["status"]["containerStatuses"]
        log = self.logs_of(*place)
        self.kubectl("delete", "--now", *place)
        return status["state"]["terminated"]["exitCode"], log

    def logs_of(self, *words: str) -> str:
        """Returns what a pod wrote, or why there is nothing."""
        place = [word for word in words if word != "pod"]
        answer = self.kubectl("logs", "--tail=-1", *place)
        return answer.out or answer.error

    def get(self, *words: str) -> dict[str, Any]:
        """Returns an object or a list of objects."""
        return self.kubectl("get", "--output=json", *words).object()

    @property
    def layers(self) -> images.Node:
        """The layers of images that the node has."""
        return images.Node(self.cache / "layers.json", self._has)

    def _has(self, digest: str) -> bool:
        return f"sha256:{digest}" in self._ctr("content", "ls", "--quiet").split()

    def load(self, *packed: images.Image) -> None:
        """Gives images to the node."""
        path = self.work / "images.tar"
        images.archive(packed, path)
        self._ctr("images", "import", str(path))
        path.unlink()

    def _ctr(self, *words: str) -> str:
        program = self._debian / "usr/bin/ctr"
        return self.machine.run(program, "--address", _SOCKET, "--namespace", "k8s.io", *words)

    def _server(self, name: str, *words: str | pathlib.Path) -> None:
        self.machine.start(self.logs / f"{name}.log", self.programs / name, *words)

    def _network(self) -> None:
        for words in (
            "link add pods type bridge",
            f"addr add {_HOST}/16 dev pods",
            f"addr add {_API}/32 dev pods",
            "link set pods up",
        ):
            self.machine.run("ip", *words.split())

    def _certify(self) -> None:
        """Writes the certificates of the API server and the key of service accounts."""
        key = ("-newkey", "rsa:2048", "-nodes")
        for words in (
            ("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test"),
            ("req", *key, "-keyout", "api.key", "-out", "api.csr", "-subj", "/CN=kube-apiserver"),
            ("genrsa", "-out", "accounts.key", "2048"),
            ("rsa", "-in", "accounts.key", "-pubout", "-out", "accounts.pub"),
        ):
            parts.run("openssl", *words, cwd=self.work)
        names = "DNS:kubernetes.default.svc"
        (self.work / "names").write_text(f"subjectAltName=IP:{_API},{names}\n")
        parts.run(
            *[
                "openssl",
                "x509",
                "-req",
                "-in",
                "api.csr",
                "-CA",
                "ca.crt",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
            ],
            *["-out", "api.crt", "-extfile", "names"],
            cwd=self.work,
        )
        (self.work / "tokens.csv").write_text("admin,admin,admin,system:masters\n")
        server = {
            "server": f"https://{_API}",
            "certificate-authority": str(self.work / "ca.crt"),
        }
        settings = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "clusters": [{"name": "test", "cluster": server}],
            "users": [{"name": "admin", "user": {"token": "admin"}}],
        }
        (self.work / "kubeconfig").write_text(json.dumps(settings))

    def _control_plane(self) -> None:
        self._server(
            "etcd",
            *("--data-dir", "/run/etcd", "--unsafe-no-fsync", "--log-level", "warn"),
            *("--listen-client-urls", _ETCD, "--advertise-client-urls", _ETCD),
        )
        self._server(
            "kube-apiserver",
            f"--etcd-servers={_ETCD}",
            *(f"--bind-address={_API}", "--secure-port=443", f"--advertise-address={_API}"),
            # Webhooks are Services: without kube-proxy they are called at their pods.
            *("--endpoint-reconciler-type=none", "--enable-aggregator-routing=true"),
            *(f"--service-cluster-ip-range={_SERVICES}", "--authorization-mode=RBAC"),
            *("--allow-privileged", "--kubelet-preferred-address-types=InternalIP"),
            *(f"--client-ca-file={self.work}/ca.crt", f"--token-auth-file={self.work}/tokens.csv"),
            *(
                f"--tls-cert-file={self.work}/api.crt",
                f"--tls-private-key-file={self.work}/api.key",
            ),
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.work}/accounts.pub",
            f"--service-account-signing-key-file={self.work}/accounts.key",
        )
        wait("the API server", 120, lambda: self.kubectl("get", "--raw", "/readyz").code == 0)
        shared = (
            f"--kubeconfig={self.work}/kubeconfig",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
        )
        self._server(
            "kube-controller-manager",
            *(*shared, "--authentication-skip-lookup", f"--root-ca-file={self.work}/ca.crt"),
            f"--service-account-private-key-file={self.work}/accounts.key",
        )
        self._server("kube-scheduler", *shared, "--authentication-skip-lookup")
        self.machine.start(
            self.logs / "names.log",
            *(sys.executable, pathlib.Path(__file__).with_name("names.py"), _HOST),
            *(self.programs / "kubectl", self.work / "kubeconfig"),
        )

    def _runtime(self) -> None:
        """Starts containerd, its images in the cache."""
        bridge = {
            "type": "bridge",
            "bridge": "pods",
            "ipam": {
                "type": "host-local",
                "dataDir": "/run/addresses",
                "ranges": [[{"subnet": _PODS, "rangeStart": "10.244.1.1", "gateway": _HOST}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        network = self.work / "network"
        network.mkdir()
        (network / "pods.conflist").write_text(
            json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]})
        )
        cri = '[plugins."io.containerd.grpc.v1.cri"'
        (self.work / "containerd.toml").write_text(
            f"""version = 2
root = "{self.cache}/containerd"
state = "/run/containerd"
[grpc]
address = "{_SOCKET}"
{cri}]
restrict_oom_score_adj = true
sandbox_image = "localhost/pause:1"
stream_server_address = "127.0.0.1"
{cri}.cni]
bin_dir = "{self._debian}/usr/lib/cni"
conf_dir = "{network}"
"""
        )
        binaries = [str(self._debian / "usr" / name) for name in ("bin", "sbin")]
        path = ":".join([*binaries, "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"])
        self.machine.start(
            self.logs / "containerd.log",
            *(self._debian / "usr/bin/containerd", "--config", self.work / "containerd.toml"),
            env={"PATH": path},
        )
        wait("containerd", 60, self._runs)
        # Names that the runtime gave to earlier runs' images, which keep their layers.
        names = self._ctr("images", "ls", "--quiet").split()
        given = [name for name in names if name.startswith("sha256:")]
        if given:
            self._ctr("images", "rm", *given)
        folder = self.work / "pause"
        folder.mkdir()
        shutil.copy(self.programs / "pause", folder)
        layer = images.pack(folder, self.work / "pause.tar")
        self.load(images.Image("localhost/pause:1", [layer], {"Entrypoint": ["/pause"]}))

    def _runs(self) -> bool:
        try:
            return bool(self._ctr("version"))
        except subprocess.CalledProcessError:
            return False

    def _node(self) -> None:
        settings: Mapping[str, Any] = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": _HOST,
            "healthzBindAddress": "127.0.0.1",
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": f"unix://{_SOCKET}",
            "clusterDNS": [_HOST],
            "clusterDomain": "cluster.local",
            "resolvConf": "",
            # The machine may be a container itself, of either version of control groups.
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            # Nobody would bring back an image that was collected.
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "evictionHard": {"memory.available": "100Mi"},
        }
        (self.work / "kubelet.json").write_text(json.dumps(settings))
        self._server(
            "kubelet",
            *(
                f"--kubeconfig={self.work}/kubeconfig",
                f"--config={self.work}/kubelet.json",
                f"--node-ip={_HOST}",
            ),
            *(f"--hostname-override={NODE}", "--cert-dir=/run/kubelet-certificates"),
            f"--root-dir={self.work}/kubelet",
        )
        wait("the node", 120, self._ready)

    def _ready(self) -> bool:
        answer = self.kubectl("get", "nodes", "--output=json")
        nodes = json.loads(answer.out)["items"] if answer.code == 0 else []
        return any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for node in nodes
            for condition in node.get("status", {}).get("conditions", [])
        )
