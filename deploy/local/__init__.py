"""A RabbitMQ and a Redis of one's own, for the demo, the tests and the benchmarks.

| module | what it holds |
|---|---|
| `source` | where a server comes from: environment, installed binary, container, package |
| `broker`, `store` | `rabbitmq()` and `redis()`, the two context managers |
| `server` | what both servers can do: start, stop, kill, pause, resume |
| `process`, `ports` | child processes that cannot outlive us, ports nobody else takes |
| `apt`, `containers` | the two ways to get what is not installed |
| `service` | one program of ours (the worker) as a child process |
| `stack`, `run` | everything together; `make run` |

`HEIMDALL_TEST_AMQP_URL` and `HEIMDALL_TEST_REDIS_URL` name servers that already run. They are deliberately not the
worker's own settings: a test must never reach a production broker because a shell had its address.
"""

from deploy.local.broker import Broker, rabbitmq
from deploy.local.errors import LocalStackError, MissingProgram, NotControllable, StartFailed
from deploy.local.service import ServiceProcess
from deploy.local.stack import Stack
from deploy.local.store import RedisServer, redis

__all__ = [
    "Broker",
    "LocalStackError",
    "MissingProgram",
    "NotControllable",
    "RedisServer",
    "ServiceProcess",
    "Stack",
    "StartFailed",
    "rabbitmq",
    "redis",
]
