"""Writes the data files beside it with pyarrow: the same rows in many shapes, as other tools have them.

`rows.csv.gz` is what S3 would write as CSV, and what the others are held against. Run with pyarrow (they were made with 26.0.1):

    python3 make.py
"""

import datetime as dt
import gzip
import random
from pathlib import Path
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq

HERE = Path(__file__).parent
ROWS = 1200

random.seed(7)
EPOCH = dt.datetime(1970, 1, 1)
ODD_KEYS = ["a+b %2F/é", "dir/", "100%", "+", "two\nlines", 'quo"te,', "k" * 1024, "\U0001f511"]
MODES = ["SSE-S3", "SSE-KMS", "DSSE-KMS", "SSE-C", "NOT-SSE", None]


def row(i):
    """One row: bucket, key, version, latest, marker, size, seconds, nanoseconds, etag, class, mode."""
    key = ODD_KEYS[i] if i < len(ODD_KEYS) else f"logs/{random.randrange(40):02}/{i:06}.gz"
    marker = i % 97 == 5
    size = None if marker else 0 if i == 1 else random.choice([random.randrange(200), random.randrange(1 << 43) if i % 29 == 0 else 7])
    seconds = random.choice([1_713_748_266, random.randrange(1_262_304_000, 1_767_225_600)])
    return (
        "src", key, None if i % 11 == 3 else f"v{i:030x}", i % 3 != 0, marker, size, seconds, random.choice([0, 999_000_000]),
        None if marker else f"{i * 7919:032x}" + ("-2" if i % 5 == 0 else ""),
        None if marker else random.choice(["STANDARD", "GLACIER", "STANDARD_IA"]), MODES[i // 200 % 6],
    )


rows = [row(i) for i in range(ROWS)]
bucket, key, version, latest, marker, size, seconds, nanos, etag, storage, mode = map(list, zip(*rows))


def times(unit, zone=None):
    scale = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[unit]
    values = [s * scale + n * scale // 1_000_000_000 for s, n in zip(seconds, nanos)]
    return pa.array(values, pa.timestamp(unit, zone))


def words(truth):
    return pa.array([str(value).lower() for value in truth])


instants = [(EPOCH + dt.timedelta(seconds=s, microseconds=n // 1000)) for s, n in zip(seconds, nanos)]
strings = pa.array([t.strftime("%Y-%m-%d %H:%M:%S.") + f"{t.microsecond // 1000:03}" for t in instants])
junk = pa.array([[i, i + 1] for i in range(ROWS)])

plain = {
    "bucket": pa.array(bucket), "key": pa.array(key), "version_id": pa.array(version), "is_latest": pa.array(latest),
    "is_delete_marker": pa.array(marker), "size": pa.array(size, pa.int64()), "last_modified_date": times("ms"),
    "e_tag": pa.array(etag), "storage_class": pa.array(storage), "is_multipart_uploaded": pa.array([False] * ROWS),
    "encryption_status": pa.array(mode), "object_owner": pa.array(["owner"] * ROWS),
}
required = pa.schema([pa.field(n, v.type, n not in ("bucket", "key")) for n, v in plain.items()])
pq.write_table(pa.table(list(plain.values()), schema=required), HERE / "as-s3.parquet", compression="snappy", row_group_size=500)

odd = {
    "unused": junk, "EncryptionStatus": pa.array(mode).dictionary_encode(), "Size": pa.array(size, pa.uint64()),
    "KEY": pa.array(key, pa.large_string()), "VersionId": pa.array(version, pa.large_string()),
    "LastModifiedDate": times("ns"), "etag": pa.array(etag, pa.binary()), "StorageClass": pa.array(storage),
    "islatest": words(latest), "IsDeleteMarker": pa.array(marker), "Bucket": pa.array(bucket).dictionary_encode(),
}
pq.write_table(
    pa.table(odd), HERE / "odd.parquet", compression="zstd", data_page_version="2.0", version="2.6", data_page_size=4096,
    use_dictionary=["Bucket", "EncryptionStatus"],
    column_encoding={"KEY": "DELTA_BYTE_ARRAY", "Size": "DELTA_BINARY_PACKED", "VersionId": "DELTA_LENGTH_BYTE_ARRAY"},
)

doubles = plain | {"size": pa.array([None if s is None else float(s) for s in size]), "last_modified_date": times("us", "UTC")}
pq.write_table(
    pa.table(doubles), HERE / "int96.parquet", compression="gzip", use_deprecated_int96_timestamps=True, data_page_size=2048,
    write_batch_size=100,
)
sql = plain | {"last_modified_date": strings, "size": pa.array([None if s is None else str(s) for s in size])}
pq.write_table(pa.table(sql), HERE / "strings.parquet", compression="none")

with orc.ORCWriter(HERE / "as-s3.orc", compression="zlib", stripe_size=1024, batch_size=100) as writer:
    # A stripe ends where a table that was written does.
    for start in range(0, ROWS, 500):
        writer.write(pa.table(plain).slice(start, 500))
orc_odd = odd | {"Size": pa.array(size, pa.int64()), "EncryptionStatus": pa.array(mode), "Bucket": pa.array(bucket)}
orc.write_table(pa.table(orc_odd), HERE / "odd.orc", compression="snappy", compression_block_size=65536, batch_size=100)
orc.write_table(pa.table(doubles), HERE / "words.orc", compression="zstd", dictionary_key_size_threshold=1.0)
orc.write_table(pa.table(plain), HERE / "first.orc", compression="uncompressed", file_version="0.11")
orc.write_table(pa.table(sql), HERE / "strings.orc", compression="zlib")


def field(value):
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return '"' + text.replace('"', '""') + '"'


with gzip.GzipFile(HERE / "rows.csv.gz", "wb", mtime=0) as file:
    for b, k, v, l, m, s, at, _, e, c, x in rows:
        when = (EPOCH + dt.timedelta(seconds=at)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        fields = [b, quote_plus(k, safe="/"), v, l, m, s, when, e, c, x]
        file.write((",".join(map(field, fields)) + "\n").encode())
