"""Registry: the named parts of one kind that the library has, and those that a module outside it adds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from scrollpast.errors import UserError


class Named(Protocol):
    """A part with a name."""

    @property
    def name(self) -> str:
        """Value of the option that selects the part; unique in its registry."""
        ...


Part = TypeVar("Part", bound=Named)


class Registry(Generic[Part]):
    """Parts of one kind by name, in the order in which they were registered.

    Options, messages and tables derive their lists of names from a registry. A module outside the library registers
    its part when it is imported, in the process that reads the configuration.

    Args:
        kind: noun for messages, such as "strategy".
        parts: those of the library.
    """

    def __init__(self, kind: str, parts: Iterable[Part]) -> None:
        self._kind = kind
        self._parts: dict[str, Part] = {}
        for part in parts:
            self.register(part)

    def register(self, part: Part) -> Part:
        """Add a part; usable as a decorator of a class.

        Raises:
            ValueError: another part has this name.
        """
        if self._parts.setdefault(part.name, part) is not part:
            raise ValueError(
                f"{self._kind} {part.name!r}: expected a new name, found a registered one "
                f"({', '.join(self._parts)})"
            )
        return part

    def unregister(self, part: Part) -> None:
        """Remove a part that was added."""
        del self._parts[part.name]

    @contextmanager
    def registered(self, part: Part) -> Iterator[Part]:
        """Part that is registered until the block ends."""
        self.register(part)
        try:
            yield part
        finally:
            self.unregister(part)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all parts."""
        return tuple(self._parts)

    def __iter__(self) -> Iterator[Part]:
        return iter(tuple(self._parts.values()))

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def find(self, name: str, option: str) -> Part:
        """The part of this name.

        Args:
            option: dotted option that has the name, for the message.

        Raises:
            UserError: no part has the name.
        """
        if name not in self._parts:
            raise UserError(
                option,
                expected=f"a registered {self._kind} ({', '.join(self._parts)})",
                found=repr(name),
                remedy="take one of these, or import the module that registers it before the job starts",
            )
        return self._parts[name]
