"""When a micro-batch is dispatched. Pure: time is an argument."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """The limits of a micro-batch.

    Attributes:
        max_batch_size: dispatch at once when so many wait.
        max_wait: seconds after the first arrival at which what waits is dispatched.
        eager: dispatch at once whenever the features stage is free: an idle worker makes no lone job wait, and under
            load batches fill while the stage is busy.
    """

    max_batch_size: int = 32
    max_wait: float = 0.005
    eager: bool = True

    def due_in(self, *, waiting: int, first_arrival: float, now: float, stage_free: bool) -> float | None:
        """Seconds until the batch is to be dispatched.

        Args:
            waiting: how many items wait.
            first_arrival: when the oldest of them came, on the clock of `now`.
            now: seconds, monotonic.
            stage_free: whether the features stage could take a batch at once.

        Returns:
            0 = now; None = nothing waits, or only the stage's becoming free can make it due.
        """
        if not waiting or not stage_free:
            return None
        if self.eager or waiting >= self.max_batch_size:
            return 0.0
        return max(0.0, first_arrival + self.max_wait - now)
