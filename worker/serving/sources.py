"""Where the files of a model version may come from. Pure.

A registry names a source for each version, and whoever may write to it could name any address. The worker goes to the
registry's own server and to object stores, with the credentials its operator gave it; to no other web server.
"""

from typing import Final
from urllib.parse import unquote, urlsplit

from worker.errors import ModelRejected

_STORES: Final = frozenset({"abfs", "abfss", "b2", "dbfs", "gs", "hdfs", "r2", "s3", "viewfs", "wasb", "wasbs"})
_BY_REGISTRY: Final = frozenset({"mlflow-artifacts", "models", "runs"})
_LOCAL: Final = frozenset({"", "file"})
_WEB: Final = frozenset({"http", "https"})


def check_source(source: str, tracking_uri: str) -> None:
    """Refuse a source that is no store, is another web server than the registry's, or climbs out of its directory.

    Raises:
        ModelRejected: with the scheme or host, never with the whole address, which may hold a password.
    """
    try:
        address, registry = urlsplit(source), urlsplit(tracking_uri)
        same_server = (address.scheme, address.hostname, address.port) == (
            registry.scheme,
            registry.hostname,
            registry.port,
        )
    except ValueError as error:
        raise ModelRejected("the registry names a source that is no address") from error
    if ".." in unquote(address.path).replace("\\", "/").split("/"):
        raise ModelRejected("the registry names a source whose path climbs upwards (..)")
    if address.scheme in _WEB and not same_server:
        raise ModelRejected(
            f"the registry names a source on {address.hostname!r:.100}: files come from the registry or an object store"
        )
    if address.scheme not in _STORES | _BY_REGISTRY | _LOCAL | _WEB:
        raise ModelRejected(f"the registry names a source of scheme {address.scheme!r:.40}: no files come from there")
