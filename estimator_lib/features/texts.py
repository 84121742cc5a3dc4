"""Canonical texts in TensorFlow: what a request writes otherwise than the training data did.

Layer 2. `core.values` for the texts of one served field: 32.0 finds the entry of 32. Numbers with
an exponent, times of another zone and JSON stay as they are; a request gives them in their
canonical form.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from estimator_lib.core.values import DATE, Logical

_TRUE, _FALSE = "true|True|TRUE", "false|False|FALSE"
_WHOLE = "-?(?:0|[1-9][0-9]*)"
_NUMBER = (
    (rf"^(?:{_TRUE})$", "1"),
    (rf"^(?:{_FALSE})$", "0"),
    (r"^(-?)\.([0-9]+)$", r"\10.\2"),
    (rf"^({_WHOLE})\.0*$", r"\1"),
    (rf"^({_WHOLE}\.[0-9]*[1-9])0+$", r"\1"),
    (r"^-0$", "0"),
)
_FRACTION = ((r"(:[0-9]{2})\.0+$", r"\1"), (r"(:[0-9]{2}\.[0-9]*[1-9])0+$", r"\1"))
_MOMENT = (
    (rf"^({DATE})T", r"\1 "),
    (r"(:[0-9.]+) ?(?:Z|UTC|[+-]00:?00|[+-]00)$", r"\1"),
    (rf"^({DATE} [0-9]{{2}}:[0-9]{{2}})$", r"\1:00"),
    *_FRACTION,
    (rf"^({DATE}) 00:00:00$", r"\1"),
)
_REWRITES: dict[Logical, tuple[tuple[str, str], ...]] = {
    Logical.BOOLEAN: ((rf"^(?:{_TRUE}|1(?:\.0*)?)$", "true"),
                      (rf"^(?:{_FALSE}|0(?:\.0*)?)$", "false")),
    Logical.INTEGER: _NUMBER,
    Logical.REAL: _NUMBER,
    Logical.DATE: _MOMENT,
    Logical.TIMESTAMP: _MOMENT,
    Logical.TIME: ((r"^([0-9]{2}:[0-9]{2})$", r"\1:00"), *_FRACTION),
}  # fmt: skip


def canonical(values: Any, logical: Logical) -> Any:
    """Returns a string tensor (dense or sparse) in the canonical form of a field's type."""
    if isinstance(values, tf.SparseTensor):
        return values.with_values(canonical(values.values, logical))
    if logical is Logical.UUID:
        return tf.strings.lower(values)
    for pattern, rewrite in _REWRITES.get(logical, ()):
        values = tf.strings.regex_replace(values, pattern, rewrite, replace_global=False)
    return values
