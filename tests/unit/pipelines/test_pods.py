"""The pod of a step for manifests of other kinds than a pipeline's."""

import pytest

from components import IMAGE
from estimator_lib.core.config import Cluster
from pipelines import pods
from tests import katib_trial

EVERYTHING = {
    "cpu": "2",
    "disk": {"size": "20Gi"},
    "shared_memory": "3Gi",
    "empty_dirs": [
        {"mount_path": "/cache"},
        {"mount_path": "/m", "size": "1Gi", "in_memory": True},
    ],
    "gpu": 2,
    "gpu_type": "amd.com/gpu",
    "node_selector": {"zone": "a"},
    "tolerations": [
        {"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute", "seconds": 0}
    ],
    "affinity": [
        {"key": "a", "values": ["1"]},
        {"key": "b", "operator": "Exists"},
        {"key": "c", "values": ["3"], "weight": 7},
    ],
    "volumes": [{"claim": "more", "mount_path": "/more"}],
    "env": {"A": "b"},
    "secrets": [{"name": "s", "env": {"k": "KEY"}, "mount_path": "/s", "optional": True}],
    "config_maps": [{"name": "c", "mount_path": "/c"}],
    "labels": {"team": "ml"},
    "image": "registry.example/x:1",
    "image_pull_policy": "Always",
    "image_pull_secrets": ["pull"],
    "security_context": {"run_as_user": 1000, "run_as_non_root": True},
    "timeout_s": 60,
}
UNPRIVILEGED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def pod_of(placement, **cluster):
    parsed = Cluster.model_validate({**cluster, "steps": {"tune": placement}})
    made = pods.template(parsed, "tune", name="one", command=["a"], environment={"FIRST": "1"})
    assert katib_trial.strictly(made, "V1PodTemplateSpec") == made
    return made


@pytest.fixture(scope="module")
def everything():
    return pod_of(
        EVERYTHING, volume={"claim": "shared", "mount_path": "/mnt"}, service_account="robot"
    )


def test_container_has_all_that_is_asked_for_it(everything):
    (container,) = everything["spec"]["containers"]
    mounts = {one["mountPath"]: one["name"] for one in container.pop("volumeMounts")}
    volumes = {one.pop("name"): one for one in everything["spec"]["volumes"]}
    assert container == {
        "name": "one",
        "image": "registry.example/x:1",
        "imagePullPolicy": "Always",
        "command": ["a"],
        "env": [
            {"name": "FIRST", "value": "1"},
            {"name": "A", "value": "b"},
            {"name": "STEP_GPUS", "value": "2"},
            {"name": "TMPDIR", "value": "/scratch"},
            {
                "name": "KEY",
                "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}},
            },
        ],
        "resources": {
            "requests": {"cpu": "2", "memory": "1Gi", "amd.com/gpu": "2"},
            "limits": {"cpu": "2", "amd.com/gpu": "2"},
        },
        "securityContext": {**UNPRIVILEGED, "runAsUser": 1000, "runAsNonRoot": True},
    }
    assert {path: volumes[name] for path, name in mounts.items()} == {
        "/mnt": {"persistentVolumeClaim": {"claimName": "shared"}},
        "/more": {"persistentVolumeClaim": {"claimName": "more"}},
        "/s": {"secret": {"secretName": "s", "optional": True}},
        "/c": {"configMap": {"name": "c"}},
        "/cache": {"emptyDir": {}},
        "/m": {"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
        "/dev/shm": {"emptyDir": {"medium": "Memory", "sizeLimit": "3Gi"}},  # noqa: S108
        "/scratch": {"emptyDir": {"sizeLimit": "20Gi"}},
    }


def test_pod_has_all_that_is_asked_for_it(everything):
    pod = {k: v for k, v in everything["spec"].items() if k not in ("containers", "volumes")}
    during = "DuringSchedulingIgnoredDuringExecution"
    required = [
        {"key": "a", "operator": "In", "values": ["1"]},
        {"key": "b", "operator": "Exists"},
    ]
    preferred = {"matchExpressions": [{"key": "c", "operator": "In", "values": ["3"]}]}
    assert pod == {
        "restartPolicy": "Never",
        "serviceAccountName": "robot",
        "activeDeadlineSeconds": 60,
        "imagePullSecrets": [{"name": "pull"}],
        "nodeSelector": {"zone": "a"},
        "tolerations": [
            {
                "key": "k",
                "operator": "Equal",
                "value": "v",
                "effect": "NoExecute",
                "tolerationSeconds": 0,
            }
        ],
        "affinity": {
            "nodeAffinity": {
                f"required{during}": {"nodeSelectorTerms": [{"matchExpressions": required}]},
                f"preferred{during}": [{"weight": 7, "preference": preferred}],
            }
        },
    }
    assert everything["metadata"]["labels"] == {"team": "ml"}


def test_step_that_asks_for_nothing_requests_little_and_has_no_privilege():
    pod = pod_of({})
    (container,) = pod["spec"]["containers"]
    assert container["resources"] == {"requests": {"cpu": "500m", "memory": "1Gi"}}
    assert container["securityContext"] == UNPRIVILEGED
    assert container["image"] == IMAGE
    assert set(pod["spec"]) == {"restartPolicy", "containers"}


def test_disk_of_a_storage_class_is_a_volume_of_its_own():
    pod = pod_of({"disk": {"size": "20Gi", "storage_class": "fast"}})
    (volume,) = pod["spec"]["volumes"]
    assert volume["ephemeral"]["volumeClaimTemplate"]["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "fast",
        "resources": {"requests": {"storage": "20Gi"}},
    }
