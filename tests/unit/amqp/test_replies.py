import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from worker.amqp.replies import refuse_reply_to, reply_publication

addresses = st.one_of(
    st.text(max_size=60),
    st.from_regex(r"(amq\.|heimdall\.|AMQ\.)[a-z.\-]{0,12}.{0,20}", fullmatch=True),
    st.builds(
        "".join,
        st.lists(
            st.sampled_from(
                ["amq.", "gen-", "rabbitmq.reply-to", "heimdall.", "reply.", "alice", "bob", ".", "\n", "x", "é"]
            ),
            max_size=6,
        ),
    ),
)


@given(addresses, st.none() | st.sampled_from(["alice", "bob", "", "a.b", ".", "*", ".*"]))
@example("heimdall.reply.alice.q", None)
@settings(max_examples=10_000, deadline=None)
def test_replies_go_only_where_nobody_else_listens(address, user):
    """Direct reply-to, queues the broker named, and queues under the job's own user: every other address is refused."""
    taken = refuse_reply_to(address, user) is None
    unguessable = [p for p in ("amq.rabbitmq.reply-to", "amq.gen-") if address.startswith(p) and len(address) > len(p)]
    own = bool(user) and address.startswith(f"heimdall.reply.{user}.") and address != f"heimdall.reply.{user}."
    if taken:
        assert not address or unguessable or own
    assert taken or not own or len(address) > 255


def test_a_dot_in_a_user_name_opens_no_other_users_queue():
    """`heimdall.reply.alice.admin.q` belongs to the user `alice.admin`, so `alice` may not send there."""
    assert refuse_reply_to("heimdall.reply.alice.admin.q", "alice.admin") is None
    assert refuse_reply_to("heimdall.reply.alice.admin.q", "alice") is not None


@pytest.mark.parametrize(
    ("address", "mandatory"),
    [
        ("amq.rabbitmq.reply-to.g1h2AA5yZXBseUA0MDU4MzI4Nw==.x", False),
        ("amq.gen-JzTY20BRgKO-HjmUJj0wLg", True),
        ("heimdall.reply.alice.q", True),
        ("heimdall.reply.amq.rabbitmq.reply-to.q", True),
    ],
)
def test_what_goes_to_a_queue_is_mandatory(address, mandatory):
    """A direct reply that is mandatory comes back though its requester gets it."""
    publication = reply_publication(address, b"{}", "application/json", "c")
    assert (publication.exchange, publication.routing_key, publication.body) == ("", address, b"{}")
    assert (publication.content_type, publication.correlation_id) == ("application/json", "c")
    assert publication.mandatory is mandatory
