from l2_platform.warehouse.chunks import ARROW_END, ChunkJoiner, can_stream


def test_rows_follow_each_other() -> None:
    joiner = ChunkJoiner("CSV")
    assert joiner.add(b"1\n") + joiner.add(b"2\n") + joiner.end(b"") == b"1\n2\n"


def test_repeated_headers_are_dropped() -> None:
    joiner = ChunkJoiner("TSVWithNamesAndTypes")
    assert joiner.add(b"a\nInt8\n1\n") + joiner.add(b"a\nInt8\n2\n") + joiner.end(b"") == b"a\nInt8\n1\n2\n"


def test_a_quoted_csv_name_may_hold_a_line_end() -> None:
    joiner = ChunkJoiner("CSVWithNames")
    assert joiner.add(b'"a\nb"\n1\n') + joiner.add(b'"a\nb"\n2\n') == b'"a\nb"\n1\n2\n'


def test_binary_headers_are_measured() -> None:
    head = b"\x01\x01a\x04Int8"
    joiner = ChunkJoiner("RowBinaryWithNamesAndTypes")
    assert joiner.add(head + b"\x07") + joiner.add(head + b"\x08") == head + b"\x07\x08"


def test_arrow_streams_keep_one_schema_and_one_end() -> None:
    schema = b"\xff\xff\xff\xff\x04\x00\x00\x00SCHM"
    joiner = ChunkJoiner("ArrowStream")
    joined = joiner.add(schema + b"batch1" + ARROW_END) + joiner.add(schema + b"batch2" + ARROW_END) + joiner.end(b"")
    assert joined == schema + b"batch1batch2" + ARROW_END


def test_an_empty_result_is_what_the_engine_sends_last() -> None:
    assert ChunkJoiner("CSVWithNames").end(b"a\n") == b"a\n"


def test_json_and_files_are_not_streamed() -> None:
    assert not any(can_stream(name) for name in ("JSON", "Parquet", "Arrow", "Pretty"))
