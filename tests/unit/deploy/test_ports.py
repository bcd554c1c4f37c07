import socket

import pytest

from deploy.local import ports
from deploy.local.errors import LocalStackError
from deploy.local.ports import PortLease


def test_a_leased_port_is_not_leased_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs in parallel never get the same port, even before either listens on it."""
    monkeypatch.setattr(ports, "FIRST", 31_990)
    monkeypatch.setattr(ports, "LAST", 31_990)
    lease = PortLease.take()
    with pytest.raises(LocalStackError, match="no free TCP port"):
        PortLease.take()
    lease.release()
    PortLease.take().release()


def test_a_port_somebody_listens_on_is_not_leased(monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign program's port is left to it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        monkeypatch.setattr(ports, "FIRST", port)
        monkeypatch.setattr(ports, "LAST", port)
        with pytest.raises(LocalStackError, match=str(port)):
            PortLease.take()
