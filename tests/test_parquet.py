"""Parquet of others: read as pyarrow reads it, but never more at once than can be held."""

from __future__ import annotations

import datetime
import io
import resource
import struct
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from innerloop import parquet, parquet_bounds
from innerloop.parquet import batches
from innerloop.parquet_bounds import BoundsError, BrokenError, rows_in
from innerloop.thrift import Reader, ThriftError


def packed(table: pa.Table, **how: Any) -> io.BytesIO:
    file = io.BytesIO()
    pq.write_table(table, file, **how)
    return file


def rows(file: io.BytesIO) -> list[dict[str, Any]]:
    return [row for batch in batches(file) for row in batch.to_pylist()]


def shared(text: str, times: int) -> pa.Array:
    """The same text in every row, stored once."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), pa.array([text]))


def in_lists(values: pa.Array, each: int) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(range(0, len(values) + 1, each), pa.int32()), values)


MANY_KINDS = pa.table(
    {
        "text": [f"t{i}" * 50 for i in range(300)],
        "few": pa.array(["a", "b", None] * 100),
        "large": pa.array(["q"] * 300, pa.large_string()),
        "dictionary": pa.array(["k"] * 300).dictionary_encode(),
        "number": [float(i) for i in range(300)],
        "bytes": [b"\x00\xff"] * 300,
        "fixed": pa.array([b"abcd"] * 300, pa.binary(4)),
        "nothing": pa.nulls(300),
        "day": [datetime.date(2024, 1, 1)] * 300,
        "list": [["a", None], []] * 150,
        "chat": [[{"role": "user", "content": f"c{i}"}, None] for i in range(300)],
        "struct": [{"x": {"y": [i]}, "z": "text"} for i in range(300)],
        "map": pa.array([[("a", i)] for i in range(300)], pa.map_(pa.string(), pa.int64())),
    }
)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"row_group_size": 70, "compression": "zstd"},
        {"use_dictionary": False, "compression": "none"},
        {"data_page_size": 100, "data_page_version": "2.0", "compression": "gzip"},
        {"dictionary_pagesize_limit": 64, "write_page_index": True},
    ],
)
def test_everything_comes_back_as_pyarrow_reads_it(how: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    file = packed(MANY_KINDS, **how)
    assert rows(file) == MANY_KINDS.to_pylist()
    assert rows_in(file) == 300
    monkeypatch.setattr(parquet, "PART", 2000)
    assert rows(file) == MANY_KINDS.to_pylist()
    assert max(map(len, batches(file))) < 5
    monkeypatch.setattr(parquet_bounds, "AT_ONCE", 1000)  # texts are kept as dictionaries
    assert rows(file) == MANY_KINDS.to_pylist()


def test_no_rows_and_no_row_groups() -> None:
    assert rows(packed(MANY_KINDS.slice(0, 0))) == []


@pytest.mark.slow
def test_a_small_file_of_gigabytes_is_refused_in_bounded_memory() -> None:
    file = packed(pa.table({"a": shared("z" * (4 << 20), 3000)}), compression="zstd")
    assert len(file.getvalue()) < 1000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BoundsError, match=r"rows unpack to .* times what the file has; .*--limit"):
        rows(file)
    with pytest.raises(BoundsError, match="a page that unpacks to 4 MiB"):
        parquet.table(file)
    short = packed(pa.table({"a": shared("z" * (1 << 20), 300_000)}), compression="zstd")
    with pytest.raises(BoundsError, match="times what the file has"):
        parquet.table(short)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20, "less than a GiB more"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pa.table({"a": in_lists(shared("z" * 10_000, 20_000), 20_000)}), r"'a\.list\.element' may unpack to .* row"),
        (pa.table({"a": ["z" * 400_000]}), "column 'a' has a page that unpacks to"),
        (pa.table({"a": ["z" * 200_000], "b": ["z" * 200_000], "c": ["z" * 200_000]}), "its columns have pages of"),
        (pa.table({"a": [[None] * 10_000]}, pa.schema([("a", pa.list_(pa.int64()))])), "row 1 unpacks to"),
        (pa.table({"a": [[None] * 100_000]}, pa.schema([("a", pa.list_(pa.int64()))])), "may unpack to .* single row"),
    ],
    ids=["a value for a whole list", "a page", "pages together", "a list of nothing", "a long list of nothing"],
)
def test_what_has_to_be_held_together_has_a_bound(table: pa.Table, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"_ROW": 300_000, "_TOGETHER": 500_000, "PART": 100_000}.items():
        monkeypatch.setattr(parquet, name, value)
    with pytest.raises(BoundsError, match=said):
        rows(packed(table, compression="zstd"))


def test_a_table_of_our_own_may_be_large_and_well_packed() -> None:
    """Shards repeat ids and candidates in every row; they are read whole whatever that comes to."""
    count = 200_000
    own = pa.table(
        {"id": ["q/sample-0"] * count, "list": [["12", "14"]] * count, "loss": [1.0 / (i + 1) for i in range(count)]}
    )
    file = packed(own, compression="zstd")
    read = parquet.table(file)
    assert read is not None
    assert read.equals(own)


def test_a_shared_value_is_read_where_few_rows_are_wanted() -> None:
    file = packed(pa.table({"a": shared("z" * (4 << 20), 3000)}), compression="zstd")
    first = next(batches(file))
    assert first.to_pylist()[0] == {"a": "z" * (4 << 20)}
    assert len(first) <= 16


def test_columns_that_are_there_twice_are_refused() -> None:
    two = pa.table([pa.array(["1"]), pa.array(["2"])], names=["answer", "answer"])
    with pytest.raises(BoundsError, match="the column 'answer' is there twice"):
        rows(packed(two))
    inner = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["b", "b"])
    with pytest.raises(BoundsError, match="the column 'b' is there twice"):
        rows(packed(pa.table({"a": inner})))


def test_a_name_that_is_not_utf8_is_refused() -> None:
    file = packed(pa.table({"quest": ["1"]}))
    broken = io.BytesIO(file.getvalue().replace(b"quest", b"qu\xffst"))
    with pytest.raises(BoundsError, match="the name of a column is not UTF-8"):
        rows(broken)


def test_columns_nested_without_end_are_refused() -> None:
    array: pa.Array = pa.array([1])
    for _ in range(40):
        array = pa.StructArray.from_arrays([array], names=["a"])
    with pytest.raises(BoundsError, match="nested deeper than 32 levels"):
        rows(packed(pa.table({"a": array})))


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_encodings_that_promise_lengths_are_not_read(encoding: str) -> None:
    file = packed(pa.table({"a": ["x"]}), use_dictionary=False, column_encoding={"a": encoding})
    with pytest.raises(BoundsError, match=f"encoded as {encoding}"):
        rows(file)


def test_what_is_cut_off_or_changed_is_never_more_than_an_error() -> None:
    whole = packed(MANY_KINDS.select(["text", "few", "list", "number"]).slice(0, 9)).getvalue()
    for place in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[place] ^= 0xFF
        for content in (bytes(changed), whole[:place]):
            try:
                for batch in batches(io.BytesIO(content)):
                    batch.to_pylist()
            except (BoundsError, BrokenError, pa.ArrowException, OSError, UnicodeDecodeError):
                continue


def test_a_dictionary_cannot_promise_more_values_than_it_has_bytes() -> None:
    head = {1: 2, 2: 8, 3: 8, 7: {1: 2**31 - 1, 2: 0}}
    leaf = parquet_bounds.Leaf(path=("a",), physical=6, width=4, repeated=False)
    with pytest.raises(BrokenError, match="a dictionary of more values than bytes"):
        parquet_bounds._sizes(head, leaf)


def test_a_footer_of_any_size_is_not_read() -> None:
    with pytest.raises(BrokenError, match="longer than the file"):
        rows(io.BytesIO(b"PAR1" + struct.pack("<I", 2**31) + b"PAR1"))
    with pytest.raises(BoundsError, match="its footer has"):
        rows(io.BytesIO(b"PAR1" + b"\x00" * (1 << 24) + struct.pack("<I", 1 << 24) + b"PAR1"))
    assert rows_in(io.BytesIO(b"nothing")) is None


@pytest.mark.parametrize(
    "data",
    [
        b"\x19" + b"\x19" * 1000,  # lists of lists
        b"\x1c" * 1000,  # structures in structures
        b"\x15" + b"\xff" * 20,  # a number without an end
        b"\x18\xff\xff\xff\xff\x0f",  # a text that is longer than all
        b"\x19\xf5\xff\xff\xff\xff\x0f",  # a list of more than there is
        b"\x1d",
    ],
)
def test_thrift_without_end_is_an_error(data: bytes) -> None:
    with pytest.raises(ThriftError):
        Reader(data).struct()


def test_thrift_values_are_counted() -> None:
    with pytest.raises(ThriftError, match="too many"):
        Reader(b"\x19\xf3\x80\x08" + b"\x01" * 2000, most=100).struct()
