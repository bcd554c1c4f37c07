"""URLs of servers, which may hold a password."""

from yarl import URL


def parse_url(text: str) -> URL:
    """Read a URL.

    Raises:
        ValueError: it is none; the message, of which the URL is the subject, holds no part of it.
    """
    try:
        return URL(text)
    except ValueError:  # The library quotes what it cannot read, which may be a part of the password.
        raise ValueError(
            "is no URL: its port must be a number, and / # ? @ : in user and password percent-encoded"
        ) from None
