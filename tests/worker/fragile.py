"""A store that stops answering when told to."""

from collections.abc import Iterator
from contextlib import contextmanager

from service.domain.errors import StoreUnavailable
from service.store import Store, Transaction


class Fragile(Store):
    """A real store whose cable can be pulled."""

    def __init__(self, other: Store) -> None:
        super().__init__(other.engine)
        self.down = False

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        self._refuse()
        with super().reading() as tx:
            yield tx

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        self._refuse()
        with super().writing() as tx:
            yield tx

    def _refuse(self) -> None:
        if self.down:
            raise StoreUnavailable("the cable is pulled")
