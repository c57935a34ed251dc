"""Grouped files and the shards of them, which no test changes."""

import pytest
from helpers.data import ShardSettings, write_shards
from helpers.shards import SMALL, write_source


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """The grouped files of level 5."""
    return write_source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="session")
def shards(source, tmp_path_factory):
    """grouped_5 of shards in half precision: four of train."""
    return write_shards(source, tmp_path_factory.mktemp("shards"), settings=SMALL)[0].parent


@pytest.fixture(scope="session")
def raw(source, tmp_path_factory):
    """grouped_5 of raw shards."""
    made = ShardSettings(norm="raw", dtype="float32", shard_bytes=10_000)
    return write_shards(source, tmp_path_factory.mktemp("raw"), settings=made)[0].parent
