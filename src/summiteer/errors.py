"""The exceptions and warnings a user of Summiteer can meet."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

#: Up to so many numbers of examples are listed in a message.
_LISTED = 10


class SummiteerError(Exception):
    """Base class of every exception raised on purpose by this package."""


class UserError(SummiteerError, ValueError):
    """An argument or a file cannot be used as given.

    The message is one sentence that names the argument, what was expected, what came
    and what to do. The command line prints it without a traceback and exits with 1.
    """


class ForwardPassError(UserError):
    """The model does not take these inputs: the cause is its own exception."""


class SummiteerWarning(UserWarning):
    """The run goes on, but its result may not mean what it seems to mean."""


def listed(numbers: Sequence[int]) -> str:
    """Return the numbers of examples as a reader bears them.

    Args:
        numbers: all of them.
    """
    if len(numbers) <= _LISTED:
        return str(list(numbers))
    few = ", ".join(str(number) for number in numbers[:3])
    return f"[{few}, …] ({len(numbers)} in all)"


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect the texts of our own warnings, each once; others go on as they came.

    Yields:
        The texts; complete when the block is left, also by an exception.
    """
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SummiteerWarning)
        try:
            yield texts
        finally:
            for warning in caught:
                text = str(warning.message)
                if issubclass(warning.category, SummiteerWarning) and text not in texts:
                    texts.append(text)
    for warning in caught:
        if not issubclass(warning.category, SummiteerWarning):
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
