"""TLS to RabbitMQ and Redis, as their URLs ask for it: what a URL may say, and what a refusal means.

The libraries take certificates as parameters of the URL. Some of these switch the check of the server off, and a plain
scheme ignores the others; both would look like TLS and be none.
"""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from schemas.urls import parse_url

_FILES: Final = ("cafile", "certfile", "keyfile", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_DIRECTORIES: Final = ("capath", "ssl_ca_path")
_ENCRYPTED: Final = ("amqps", "rediss")
_CHECKING: Final = {"no_verify_ssl": "0", "ssl_cert_reqs": "required", "ssl_check_hostname": "true"}
"""Parameters that may only say what holds anyway."""


def check_url(url: str) -> str:
    """Return a URL whose parameters keep what its scheme promises.

    Raises:
        ValueError: it is no URL, switches the check of the server off, asks for certificates without TLS, or names a
            missing file. The message holds no part of a password.
    """
    parsed = parse_url(url)
    for name, only in _CHECKING.items():
        if parsed.query.get(name, only).lower() != only:
            raise ValueError(f"{name} would trust any server; leave it out, and name the server's authority instead")
    asked = [name for name in (*_FILES, *_DIRECTORIES, "cadata", "ssl_ca_data") if name in parsed.query]
    if asked and parsed.scheme not in _ENCRYPTED:
        raise ValueError(f"{asked[0]} has no effect without TLS: the scheme must be {' or '.join(_ENCRYPTED)}")
    for name in asked:
        path = Path(parsed.query[name])
        if (name in _FILES and not path.is_file()) or (name in _DIRECTORIES and not path.is_dir()):
            raise ValueError(f"{name}: {path} does not exist, or may not be read")
    return url


def explain(error: BaseException, *, encrypted: bool) -> str:
    """Say why a connection failed, with what it means where TLS has to do with it.

    Args:
        error: as the library raised it; secrets do not stand in it.
        encrypted: whether TLS was asked for.
    """
    said = " ".join(str(error).split()) or type(error).__name__
    meanings = (_meaning(cause, encrypted=encrypted) for cause in _causes(error))
    return " - ".join((said, *[meaning for meaning in meanings if meaning][:1]))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it, the innermost first."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    return reversed(chain)


def _meaning(error: BaseException, *, encrypted: bool) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        wrong_name = "is not valid for" in error.verify_message
        return (
            "its certificate names another host"
            if wrong_name
            else "no authority that is trusted signed its certificate"
        )
    if encrypted and isinstance(error, ssl.SSLError | TimeoutError):
        return "does this port speak TLS?"
    if not encrypted and isinstance(error, ConnectionResetError):
        return "does this port want TLS?"
    return ""
