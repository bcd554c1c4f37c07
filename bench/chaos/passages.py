"""Ways through a proxy to the servers of a world."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

from bench.chaos.proxy import Proxy
from deploy.local.ports import PortLease


@contextmanager
def through(*urls: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy before servers that are alike, and the first one's URL with the proxy's port."""
    parts = urlsplit(urls[0])
    ports = [urlsplit(url).port or 0 for url in urls]
    lease = PortLease.take()
    try:
        with Proxy(lease.port, ports) as proxy:
            place = (parts.netloc.rpartition(":")[0] or parts.netloc) + f":{lease.port}"
            yield proxy, urlunsplit(parts._replace(netloc=place))
    finally:
        lease.release()
