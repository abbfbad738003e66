import gzip
from collections.abc import Callable

import lz4.block
import lz4.frame
import pytest
import zstandard

from l2_platform.warehouse.encoding import choose_encoding, decode_blocks, decode_body, make_encoder
from l2_platform.warehouse.errors import QueryFailed

DATA = b"depth " * 1000


@pytest.mark.parametrize("name", ["lz4", "zstd", "gzip", "deflate", None])
def test_encoders_and_decoders_agree(name: str | None) -> None:
    encoder = make_encoder(name)
    packed = encoder.add(DATA[:10]) + encoder.add(DATA[10:]) + encoder.end()
    assert decode_body(packed, name or "", len(DATA)) == DATA


@pytest.mark.parametrize(
    ("compress", "name"), [(gzip.compress, "gzip"), (lz4.frame.compress, "lz4"), (zstandard.compress, "zstd")]
)
def test_a_body_may_not_unpack_into_more_than_the_limit(compress: Callable[[bytes], bytes], name: str) -> None:
    packed = compress(DATA)
    with pytest.raises(QueryFailed) as caught:
        decode_body(packed, name, len(DATA) - 1)
    assert caught.value.status == 413


@pytest.mark.parametrize("name", ["gzip", "lz4", "zstd"])
def test_damaged_bodies_are_a_bad_request(name: str) -> None:
    with pytest.raises(QueryFailed) as caught:
        decode_body(b"no such thing", name, 1000)
    assert caught.value.status == 400


def test_blocks_of_clickhouse_are_unpacked() -> None:
    def block(method: int, body: bytes) -> bytes:
        return bytes(16) + bytes((method,)) + (len(body) + 9).to_bytes(4, "little") + len(DATA).to_bytes(4, "little") + body

    packed = block(0x82, lz4.block.compress(DATA, store_size=False)) + block(0x90, zstandard.compress(DATA)) + block(0x02, DATA)
    assert decode_blocks(packed, 10 * len(DATA)) == DATA * 3
    with pytest.raises(QueryFailed):
        decode_blocks(packed[:-1], 10 * len(DATA))
    with pytest.raises(QueryFailed):
        decode_blocks(packed, len(DATA))


def test_choose_encoding_takes_the_fastest_offered() -> None:
    assert choose_encoding("gzip, zstd;q=0.5, lz4") == "lz4"
    assert choose_encoding("br") is None
