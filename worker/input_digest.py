"""What an outcome answers: one digest of publisher, content type, metadata and body. Pure."""

from blake3 import blake3


def input_digest(publisher: str | None, content_type: str | None, sigmf: str | bytes | None, body_digest: bytes) -> str:
    """The digest that a stored outcome carries as `input_digest`.

    Args:
        publisher: the job's broker-validated user, if it states one.
        content_type: of the body.
        sigmf: the header of that name.
        body_digest: BLAKE3 of the body, 32 bytes.
    """
    metadata = sigmf.encode() if isinstance(sigmf, str) else sigmf or b""
    parts = ((publisher or "").encode(), (content_type or "").encode(), metadata, body_digest)
    # With lengths, so that no two different inputs concatenate to the same bytes.
    described = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return f"blake3:{blake3(described).hexdigest()}"
