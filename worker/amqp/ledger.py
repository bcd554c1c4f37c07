"""Which deliveries of a channel are finished, so that one acknowledgement can cover many. Pure."""


class AckLedger:
    """The open delivery tags of one channel.

    `basic.ack` with `multiple` settles every tag up to its own, so it may only name a tag below which nothing is open.
    """

    def __init__(self) -> None:
        self._open: dict[int, bool] = {}  # In order of delivery, which is the order of tags.

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, tag: int) -> bool:
        return tag in self._open

    def deliver(self, tag: int) -> None:
        """Note a delivery; tags of a channel only grow."""
        self._open[tag] = True

    def finish(self, tags: set[int]) -> list[tuple[int, bool]]:
        """Settle tags.

        Returns:
            The acknowledgements to send, as (tag, multiple). Tags that are not open are left out: each is settled once.
        """
        finished = tags & self._open.keys()
        prefix = None
        while self._open and (first := next(iter(self._open))) in finished:
            prefix = first
            finished.discard(first)
            del self._open[first]
        for tag in finished:
            del self._open[tag]
        return ([] if prefix is None else [(prefix, True)]) + [(tag, False) for tag in sorted(finished)]

    def drop(self, tag: int) -> bool:
        """Settle one tag in another way than by acknowledgement; False where it is not open."""
        return self._open.pop(tag, False)
