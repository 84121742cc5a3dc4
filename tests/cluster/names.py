"""Answers DNS questions for a cluster without kube-proxy: a Service's name is its pods' addresses.

    python names.py ADDRESS KUBECTL KUBECONFIG

Only what this needs: questions of one name by UDP; every other name does not exist.
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
import time

_DOMAIN = "svc.cluster.local"
_ADDRESS = 1
"""The type of a question for an IPv4 address."""
_NO_SUCH_NAME = 3


def main(address: str, kubectl: str, kubeconfig: str) -> None:
    """Serves for ever."""
    known: dict[str, list[str]] = {}

    def follow() -> None:
        while True:
            found = _services(kubectl, kubeconfig)
            for name in set(known) - set(found):
                del known[name]
            known.update(found)
            time.sleep(1)

    threading.Thread(target=follow, daemon=True).start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 53))
        while True:
            question, sender = server.recvfrom(4096)
            server.sendto(answer(question, known), sender)


def _services(kubectl: str, kubeconfig: str) -> dict[str, list[str]]:
    done = subprocess.run(
        [kubectl, "--kubeconfig", kubeconfig, "get", "endpointslices", "-A", "-o", "json"],
        capture_output=True,
        check=False,
    )
    found: dict[str, list[str]] = {}
    for one in json.loads(done.stdout or '{"items": []}')["items"]:
        service = one["metadata"].get("labels", {}).get("kubernetes.io/service-name")
        name = f"{service}.{one['metadata']['namespace']}.{_DOMAIN}"
        for endpoint in one.get("endpoints") or []:
            if service and endpoint["conditions"].get("ready") is not False:
                hosts = [name, *(f"{h}.{name}" for h in [endpoint.get("hostname")] if h)]
                for host in hosts:
                    found.setdefault(host, []).extend(endpoint["addresses"])
    return found


def answer(question: bytes, known: dict[str, list[str]]) -> bytes:
    """Returns the answer to one question, as RFC 1035 writes them."""
    labels, end = [], 12
    while length := question[end]:
        labels.append(question[end + 1 : end + 1 + length].decode().lower())
        end += 1 + length
    (kind,) = struct.unpack_from("!H", question, end + 1)
    addresses = known.get(".".join(labels))
    records = (addresses or []) if kind == _ADDRESS else []
    flags = 0x8580 | (0 if addresses else _NO_SUCH_NAME)
    head = question[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, 0)
    # 0xC00C points back to the name in the question.
    body = [struct.pack("!HHHIH", 0xC00C, _ADDRESS, 1, 1, 4) + socket.inet_aton(a) for a in records]
    return head + question[12 : end + 5] + b"".join(body)


if __name__ == "__main__":
    main(*sys.argv[1:])
