"""Writes data files beside it with Spark, whose ORC and Parquet are Java's: the rows of `rows.csv.gz`. Run with Java and pyspark (they
were made with 3.5.9), in another time zone than UTC, since ORC's times are told in the writer's:

    TZ=America/New_York python3 spark.py
"""

import csv
import datetime as dt
import gzip
import io
import shutil
import tempfile
from pathlib import Path
from urllib.parse import unquote_plus

from pyspark.sql import SparkSession
from pyspark.sql import types as t

HERE = Path(__file__).parent
FILES = {
    # Spark's own choices; many stripes and row groups, words in no dictionary.
    "spark.orc": ("orc", {}),
    "java-lz4.orc": (
        "orc",
        {"compression": "lz4", "orc.stripe.size": "16384", "orc.compress.size": "4096", "orc.row.index.stride": "1000",
         "orc.dictionary.key.threshold": "0", "orc.bloom.filter.columns": "key"},
    ),
    "spark.parquet": ("parquet", {"compression": "lz4_raw", "parquet.block.size": "16384", "parquet.page.size": "2048"}),
}


def rows():
    for b, k, v, latest, marker, size, at, etag, storage, mode in csv.reader(io.TextIOWrapper(gzip.open(HERE / "rows.csv.gz"), "utf-8")):
        when = dt.datetime.fromisoformat(at.replace("Z", "+00:00"))
        yield (b, unquote_plus(k), v or None, latest == "true", marker == "true", int(size) if size else None, when, etag or None,
               storage or None, mode or None)


SCHEMA = "bucket string, key string, version_id string, is_latest boolean, is_delete_marker boolean, size bigint, " \
    "last_modified_date timestamp, e_tag string, storage_class string, encryption_status string"

spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
table = spark.createDataFrame(list(rows()), SCHEMA).coalesce(1)
for name, (kind, options) in FILES.items():
    with tempfile.TemporaryDirectory() as folder:
        table.write.options(**options).format(kind).save(f"{folder}/table")
        (part,) = Path(folder, "table").glob("part-*")
        shutil.copyfile(part, HERE / name)
