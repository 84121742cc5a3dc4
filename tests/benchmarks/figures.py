"""One form for every figure: a JSON line with name, value, unit, peer and ratio."""

import json


def report(name: str, value: float, unit: str, peer: str = "", peer_value: float | None = None):
    """Prints a figure; the ratio is ours over the peer's."""
    line = {"name": name, "value": round(value, 4), "unit": unit}
    if peer_value is not None:
        line |= {
            "peer": peer,
            "peer_value": round(peer_value, 4),
            "ratio": round(value / peer_value, 3),
        }
    print(json.dumps(line), flush=True)
