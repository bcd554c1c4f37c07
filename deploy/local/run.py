"""`make run`: the local stack with the demo model and one worker, until Ctrl-C."""

import sys
import time

from deploy.local.command import run_command
from deploy.local.service import ServiceProcess
from deploy.local.stack import Stack

MODEL = "heimdall"
POLL_S = 0.5

GUIDE = """\
Heimdall runs: model {model} version {version}. Ctrl-C stops everything.

  AMQP      {amqp}
  Redis     {redis}
  HTTP      {http}   (/health/ready, /metrics, /model/info)
  log       {log}

In another terminal:

  export HEIMDALL_AMQP_URL={amqp}
  export HEIMDALL_REDIS_URL={redis}
  export HEIMDALL_MLFLOW_TRACKING_URI={registry}
  .venv/bin/heimdall locate examples/scene.sigmf-meta
"""


def main() -> int:
    """Run until interrupted; 0 when asked to stop, 1 when something failed."""
    return run_command(_run)


def _run() -> int:
    print("starting RabbitMQ, Redis and a worker …", flush=True)
    try:
        with Stack.running() as stack:
            return _serve(stack)
    except KeyboardInterrupt:
        print("\nstopped: worker, RabbitMQ and Redis are gone")
        return 0


def _serve(stack: Stack) -> int:
    from examples.demo import register_demo_model  # noqa: PLC0415 - heavy (MLflow), and not needed to say what is missing

    version = register_demo_model(stack.tracking_uri, MODEL)
    env = {**stack.worker_env(), "HEIMDALL_MODEL_NAME": MODEL, "HEIMDALL_CONTROL_USERS": "guest"}
    with ServiceProcess([sys.executable, "-m", "worker"], env) as worker:
        urls = {"amqp": stack.broker.url, "redis": stack.store.url, "http": worker.http_url, "log": worker.log}
        urls["registry"] = stack.tracking_uri
        print(GUIDE.format(model=MODEL, version=version, **urls), flush=True)
        return _watch(worker)


def _watch(worker: ServiceProcess) -> int:
    while worker.running:
        time.sleep(POLL_S)
    print(f"error: the worker ended with code {worker.returncode}\n{worker.log_text()[-4000:]}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
