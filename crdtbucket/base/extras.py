"""Guards imports of packages that an extra installs: when one is missing, the error says how to
install it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Surrounds imports of what the extra `name` installs: the `ModuleNotFoundError` of a missing
    package says how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this module needs {error.name}: pip install 'crdtbucket[{name}]'", name=error.name
        ) from error
