"""The exceptions and warnings a user of Summiteer can meet."""


class SummiteerError(Exception):
    """Base class of every exception raised on purpose by this package."""


class UserError(SummiteerError, ValueError):
    """An argument or a file cannot be used as given.

    The message is one sentence that names the argument, what was expected, what came
    and what to do. The command line prints it without a traceback and exits with 1.
    """


class SummiteerWarning(UserWarning):
    """The run goes on, but its result may not mean what it seems to mean."""
