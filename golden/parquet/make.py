#!/usr/bin/env python3
"""Writes small Parquet files with Arrow, for `wootz-data` to read the same rows.

    python golden/parquet/make.py        # writes golden/parquet/*.parquet; needs: pip install pyarrow==26.0.1

Rows of all types, shapes and nestings that data sets have, in each codec, both page versions and every encoding; small pages, so that
columns have several that end at different rows. What a reader should find is in rows.json, as Arrow's own reader gives it.
"""
import json, os, random
from decimal import Decimal
import pyarrow as pa
import pyarrow.parquet as pq

HERE = os.path.dirname(os.path.abspath(__file__))
TURN = pa.struct([("role", pa.string()), ("content", pa.string()), ("weight", pa.int8())])
SCHEMA = pa.schema([
    ("text", pa.string()), ("id", pa.int64()), ("small", pa.int32()), ("large", pa.uint64()), ("score", pa.float32()), ("exact", pa.float64()),
    pa.field("label", pa.bool_(), nullable=False), ("price", pa.decimal128(12, 3)), ("half", pa.float16()), ("fixed", pa.binary(3)),
    ("messages", pa.list_(TURN)), ("tags", pa.list_(pa.string())), ("grid", pa.list_(pa.list_(pa.int32()))),
    ("meta", pa.struct([("source", pa.string()), ("inner", pa.struct([("n", pa.int64())]))])), ("counts", pa.map_(pa.string(), pa.int64())),
])


def rows(n):
    r = random.Random(3)
    maybe = lambda value: None if r.random() < 0.2 else value
    word = lambda: "".join(r.choice("abcäß€𝄞 ") for _ in range(r.randint(0, 9)))
    few = lambda make: [make() for _ in range(r.randint(0, 3))]
    turn = lambda: maybe(dict(role=r.choice(["user", "assistant"]), content=maybe(word()), weight=maybe(r.randint(-3, 3))))
    inner = lambda: maybe(dict(n=maybe(r.randint(0, 9))))
    return [dict(text=maybe(word()), id=i * 1000 - 5, small=maybe(r.randint(-2**31, 2**31 - 1)), large=maybe(r.randint(0, 2**64 - 1)),
                 score=maybe(r.choice([0.1, -2.5, 1e-8])), exact=maybe(r.randint(-10**6, 10**6) / 64), label=r.random() < 0.5,
                 price=maybe(Decimal(r.randint(-10**6, 10**6)) / 1000), half=maybe(r.choice([0.5, -1.25, 3.0])),
                 fixed=maybe("".join(r.choice("xyz") for _ in range(3)).encode()), messages=maybe(few(turn)), tags=maybe(few(lambda: maybe(word()))),
                 grid=maybe(few(lambda: maybe(few(lambda: maybe(r.randint(0, 99)))))), meta=maybe(dict(source=maybe(word()), inner=inner())),
                 counts=maybe({word() + str(k): maybe(k) for k in range(r.randint(0, 3))})) for i in range(n)]


def plain(value):
    """As JSON, with floats of 32 bits as short as they can be."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return {k: plain(v) for k, v in value} if value and isinstance(value[0], tuple) else [plain(v) for v in value]
    return {k: plain(v) for k, v in value.items()} if isinstance(value, dict) else value


def main():
    made = rows(60)
    table = pa.Table.from_pylist(made, schema=SCHEMA)
    encodings = {"text": "DELTA_BYTE_ARRAY", "id": "DELTA_BINARY_PACKED", "small": "DELTA_BINARY_PACKED", "score": "BYTE_STREAM_SPLIT",
                 "exact": "BYTE_STREAM_SPLIT", "label": "RLE", "meta.source": "DELTA_LENGTH_BYTE_ARRAY", "large": "PLAIN"}
    cases = {c: dict(compression=c) for c in ("none", "snappy", "gzip", "zstd")}
    cases["lz4"] = dict(compression="lz4")
    cases["encodings"] = dict(compression="none", use_dictionary=False, column_encoding=encodings, data_page_version="2.0")
    cases["v2"] = dict(compression="zstd", data_page_version="2.0")
    for name, settings in cases.items():
        path = os.path.join(HERE, name + ".parquet")
        pq.write_table(table, path, row_group_size=37, data_page_size=200, write_batch_size=8, write_statistics=False, store_schema=False, **settings)
        back = pq.read_table(path, schema=SCHEMA).to_pylist()
        assert len(back) == 60
    # What Arrow reads; a map that is empty is an object all the same, and 0.1 in 32 bits is 0.1.
    found = [{k: plain(v) for k, v in row.items()} for row in back]
    for row, given in zip(found, made):
        row["score"] = given["score"]
        row["counts"] = None if given["counts"] is None else {k: v for k, v in given["counts"].items()}
    json.dump(dict(pyarrow=pa.__version__, rows=found), open(os.path.join(HERE, "rows.json"), "w"), ensure_ascii=False, separators=(",", ":"))


if __name__ == "__main__":
    main()
