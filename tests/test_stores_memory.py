from __future__ import annotations

from collections.abc import Iterator

import pytest

from flask_prerender.stores.base import Store
from flask_prerender.stores.memory import MemoryStore
from store_contract import MACHINE
from store_contract import make_page
from store_contract import StoreContract
from store_contract import StoreMachine


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> Iterator[Store]:
        yield MemoryStore()


def test_a_sweep_drops_bodies_that_no_page_names() -> None:
    store = MemoryStore()
    old, _ = make_page(body=b"old", gzip=None)
    page, bodies = make_page(body=b"new", gzip=None)
    store.put(old, {"identity": b"old"})
    store.put(page, bodies)
    assert store.read(old, old.identity) == b"old"
    store.sweep()
    assert store.read(old, old.identity) is None
    assert store.read(page, page.identity) == b"new"


class MemoryStoreMachine(StoreMachine):
    def make_store(self) -> Store:
        return MemoryStore()


TestMemoryStoreMachine = MemoryStoreMachine.TestCase
TestMemoryStoreMachine.settings = MACHINE
