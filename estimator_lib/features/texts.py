"""Canonical texts in TensorFlow: what a request writes otherwise than the training data did.

Layer 2. `core.values` for the texts of one served field: 32.0 finds the entry of 32. Numbers with
an exponent, times of another zone and JSON stay as they are; a request gives them in their
canonical form.
"""

from __future__ import annotations

import re

import tensorflow as tf

from estimator_lib.core.units import Unit
from estimator_lib.core.values import DATE, FALSE, TRUE, Logical

_WHOLE = "-?(?:0|[1-9][0-9]*)"
_NUMBER = (
    (rf"^(?:{'|'.join(TRUE)})$", "1"),
    (rf"^(?:{'|'.join(FALSE)})$", "0"),
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
    Logical.INTEGER: _NUMBER,
    Logical.REAL: _NUMBER,
    Logical.DATE: _MOMENT,
    Logical.TIMESTAMP: _MOMENT,
    Logical.TIME: ((r"^([0-9]{2}:[0-9]{2})$", r"\1:00"), *_FRACTION),
}


def numbers(texts: tf.Tensor, unit: Unit) -> tf.Tensor:
    """Returns the numbers of texts that may have a unit, float32 of their shape.

    NaN for the empty text and for what is no number; as reading a file would give it.
    """
    plain = tf.fill(tf.shape(texts), "nan")
    for pattern, rewrite in unit.rewrites:
        bare = tf.strings.regex_replace(texts, pattern, rewrite)
        for mark, written in ((unit.thousands, ""), (unit.decimal, ".")):
            bare = tf.strings.regex_replace(bare, re.escape(mark), written) if mark else bare
        plain = tf.where(tf.strings.regex_full_match(texts, pattern), bare, plain)
    return tf.cast(tf.strings.to_number(plain, tf.float64), tf.float32)


def canonical(values: tf.Tensor | tf.SparseTensor, logical: Logical) -> tf.Tensor | tf.SparseTensor:
    """Returns a string tensor (dense or sparse) in the canonical form of a field's type."""
    if isinstance(values, tf.SparseTensor):
        return values.with_values(canonical(values.values, logical))
    if logical is Logical.UUID:
        return tf.strings.lower(values)
    for pattern, rewrite in _REWRITES.get(logical, ()):
        values = tf.strings.regex_replace(values, pattern, rewrite, replace_global=False)
    return values
