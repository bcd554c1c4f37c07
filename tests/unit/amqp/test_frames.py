import pamqp.commands
import pamqp.frame
import pamqp.header
import pytest

from tests.unit.amqp.messages import Message
from worker.amqp import session
from worker.amqp.delivery import read_delivery


def header_frame(**properties):
    """The frame of a message's properties, as the broker sends it."""
    return pamqp.frame.marshal(pamqp.header.ContentHeader(0, 1, pamqp.commands.Basic.Properties(**properties)), 1)


def test_a_sound_frame_is_read():
    """Text of any alphabet arrives as it was sent."""
    _, _, header = pamqp.frame.unmarshal(header_frame(message_id="jób", headers={"session_id": "東"}))
    assert (header.properties.message_id, header.properties.headers) == ("jób", {"session_id": "東"})


@pytest.mark.parametrize("name", ["message_id", "correlation_id", "reply_to", "content_type", "user_id"])
def test_a_property_that_is_no_text_does_not_close_the_connection(name):
    """One message must not take the connection, and all that is in flight, down with it each time it is delivered."""
    assert session
    frame = header_frame(**{name: "abc"}).replace(b"\x03abc", b"\x03\xff\xfe\xfd")
    _, _, header = pamqp.frame.unmarshal(frame)
    value = getattr(header.properties, name)
    assert len(value.encode()) <= 255
    message = Message(**{"message_id": "job-1", "content_type": "application/json", name: value})
    assert read_delivery(object(), message, 1000).body == message.body
