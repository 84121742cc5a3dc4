"""A pod of a JobSet on this machine: its program, with addresses on loopback.

The environment has what the manifest and Kubernetes give the pod, and ADDRESSES: a JSON object of
addresses by host name, for what a cluster's name server does.
"""

import json
import os

from components.steps import train_role

known = json.loads(os.environ["ADDRESSES"])
host_name = train_role.address
train_role.address = lambda *pod: known[host_name(*pod)]
train_role.main()
