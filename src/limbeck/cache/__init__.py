"""A teacher's answers, asked once, kept on disk and replayed."""

from limbeck.cache.building import build, rows_of_pass, rows_of_shard
from limbeck.cache.codecs import Codec, Dense, Sampled, TopK
from limbeck.cache.layout import Layout
from limbeck.cache.origin import key_of, made_from, network_hash
from limbeck.cache.replay import Replay
from limbeck.cache.store import Store, differences

__all__ = [
    "Codec",
    "Dense",
    "Layout",
    "Replay",
    "Sampled",
    "Store",
    "TopK",
    "build",
    "differences",
    "key_of",
    "made_from",
    "network_hash",
    "rows_of_pass",
    "rows_of_shard",
]
