"""Single commands to Redis, on connections that are kept from one to the next.

The client asks its pool for a connection each time, and wraps each command in repeats and measurements that are off
here: of a lone job that takes longer than Redis and the network together.
"""

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection


class Commands:
    """Sends commands, one at a time on each connection; as many are open as commands were ever under way at once.

    Args:
        client: of the Redis that is meant; its settings count.
    """

    def __init__(self, client: Redis) -> None:
        self._pool = client.connection_pool
        self._idle: list[AbstractConnection] = []

    async def execute(self, *words: bytes | str | int) -> Any:
        """Send a command.

        Args:
            words: of the command, its name first.

        Returns:
            The answer as Redis gave it; an error within a list is an element of it.

        Raises:
            redis.exceptions.RedisError, OSError, TimeoutError: Redis is away, or refuses.
        """
        connection = self._idle.pop() if self._idle else self._pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            await self._pool.ensure_connection(connection)
            await connection.send_command(*words)
            return await connection.read_response()
        finally:
            self._idle.append(connection)

    async def close(self) -> None:
        """Close the connections; none may be in use."""
        for connection in self._idle:
            await connection.disconnect()
