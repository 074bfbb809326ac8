"""Whatever clients are called elsewhere, and the ids by which they take part in sessions."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping

from secagg.errors import ClientId, LocalProtocolError
from secagg.wire import MAX_ID


class Names(Mapping[Hashable, ClientId]):
    """One to one: name -> id, as a mapping in the order given, and back.

    names: of clients, whatever can be a key, which take part as 0, 1, ... in the order given; or name -> id,
    where a roster has given the ids: whole numbers in 0..2^31-2.

    Raises: LocalProtocolError if a name or an id stands twice, or an id is none.

    Security: a name is the driver's own affair, and never leaves. Which id a channel speaks for has to follow
    from whom it authenticates, and by a roster that is whose key it lists under that id.
    """

    def __init__(self, names: Iterable[Hashable] | Mapping[Hashable, ClientId]) -> None:
        if isinstance(names, Mapping):
            pairs = list(names.items())
        else:
            pairs = [(name, u) for u, name in enumerate(names)]
        self._ids: dict[Hashable, ClientId] = {}
        self._names: dict[ClientId, Hashable] = {}
        for name, u in pairs:
            if type(u) is not int or not 0 <= u <= MAX_ID:
                raise LocalProtocolError(
                    f"client {name!r}: its id is a whole number in 0..{MAX_ID}, not {u!r}"
                )
            if name in self._ids:
                raise LocalProtocolError(f"client {name!r} stands twice among the names")
            if u in self._names:
                raise LocalProtocolError(f"clients {self._names[u]!r} and {name!r} have one id, {u}")
            self._ids[name], self._names[u] = u, name

    def __getitem__(self, name: Hashable) -> ClientId:
        return self._ids[name]

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def name(self, u: ClientId) -> Hashable:
        """Who takes part as client u. Raises: LocalProtocolError if nobody does."""
        if u not in self._names:
            raise LocalProtocolError(f"nobody here takes part as client {u}")
        return self._names[u]

    def of(self, ids: Iterable[ClientId]) -> tuple[Hashable, ...]:
        """The names of these ids, of survivors, say: each once, in the order in which they were given.

        Raises: LocalProtocolError if one is nobody's.
        """
        wanted = {self.name(u) for u in ids}
        return tuple(name for name in self if name in wanted)
