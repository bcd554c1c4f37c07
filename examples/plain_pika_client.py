"""A client of the wire with pika and nothing of ours: publish a SigMF recording, await its position.

    python examples/plain_pika_client.py --url amqp://guest:guest@localhost:5672/ examples/scene.sigmf-meta

The recording must be in transport form: metadata and dataset side by side, at the model's sample rate, its channels
interleaved, with `heimdall:receivers` in its global object (docs/wire.md).
"""

import argparse
import json
import sys
import time
import uuid
from pathlib import Path

import pika
import pika.exceptions

DIRECT_REPLY_TO = "amq.rabbitmq.reply-to"
"""RabbitMQ hands the reply to this channel: no queue to declare, and nobody else can guess the address."""


def read_recording(meta: Path) -> tuple[str, bytes]:
    """Metadata as JSON text, and the dataset."""
    document = json.loads(meta.read_text(encoding="utf-8"))
    return json.dumps(document), meta.with_suffix(".sigmf-data").read_bytes()


def locate(connection: pika.BlockingConnection, sigmf: str, body: bytes, timeout: float) -> tuple[str, dict]:
    """Publish one job and await its reply.

    Args:
        connection: open.
        sigmf: metadata of the recording, JSON text.
        body: its dataset.
        timeout: seconds to wait for the reply.

    Returns:
        Content type and JSON document of the reply: a result, or a problem.

    Raises:
        pika.exceptions.NackError: the queue is full; publish again later, under the same message_id.
        pika.exceptions.UnroutableError: no queue took the job.
        TimeoutError: no reply; the same message_id with the same body asks for the stored outcome.
    """
    job_id = f"plain-{uuid.uuid4().hex}"
    channel = connection.channel()
    channel.confirm_delivery()  # basic_publish then raises unless the broker has the job.
    replies: list[tuple[str, dict]] = []

    def on_reply(_channel: object, _method: object, properties: pika.BasicProperties, reply: bytes) -> None:
        if properties.correlation_id == job_id:
            replies.append((properties.content_type, json.loads(reply)))

    # The consumer comes first: the broker ties the reply address to it.
    channel.basic_consume(DIRECT_REPLY_TO, on_reply, auto_ack=True)
    deadline_ms = int((time.time() + timeout) * 1000)  # Later nobody needs the answer, and the worker need not compute.
    channel.basic_publish(
        exchange="heimdall.iq",
        routing_key="localize",
        body=body,
        properties=pika.BasicProperties(
            message_id=job_id,
            correlation_id=job_id,
            reply_to=DIRECT_REPLY_TO,
            content_type="application/octet-stream",
            delivery_mode=pika.DeliveryMode.Persistent,
            headers={"sigmf": sigmf, "session_id": "plain-pika", "deadline_ms": deadline_ms},
        ),
        mandatory=True,
    )
    ends = time.monotonic() + timeout
    while not replies:
        if time.monotonic() > ends:
            raise TimeoutError(f"no reply to job {job_id} within {timeout:g} s: does a worker run?")
        connection.process_data_events(time_limit=0.1)
    return replies[0]


def main() -> int:
    """0 located, 1 answered with an error, 3 no answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="amqp://guest:guest@localhost:5672/", help="of RabbitMQ")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds to wait for the reply")
    parser.add_argument("recording", type=Path, help="a .sigmf-meta file")
    asked = parser.parse_args()
    sigmf, body = read_recording(asked.recording)
    try:
        connection = pika.BlockingConnection(pika.URLParameters(asked.url))
        try:
            content_type, answer = locate(connection, sigmf, body, asked.timeout)
        finally:
            connection.close()
    except (pika.exceptions.AMQPError, TimeoutError) as error:
        print(f"no answer: {error!r}", file=sys.stderr)
        return 3
    if content_type == "application/problem+json":
        print(f"{answer['code']}: {answer['detail']}", file=sys.stderr)
        return 1
    position, ellipse = answer["position"], answer["ellipse"]
    print(f"{position['latitude']:.6f} {position['longitude']:.6f}")
    print(
        f"{ellipse['confidence']:.0%} within {ellipse['semi_major_m']:.0f} m x {ellipse['semi_minor_m']:.0f} m, "
        f"azimuth {ellipse['azimuth_deg']:.0f} degrees; model version {answer['model_version']}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
