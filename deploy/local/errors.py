"""What can go wrong while a local stack is got, started or controlled."""


class LocalStackError(Exception):
    """Anything the local stack could not do; the message says what would be right."""


class MissingProgram(LocalStackError):
    """A server is neither given, nor installed, nor installable here."""


class StartFailed(LocalStackError):
    """A process ended or stayed silent instead of becoming ready; the message ends with its log."""


class NotControllable(LocalStackError):
    """The server was given by URL: it is not ours to stop, pause or configure."""
