"""The Heimdall worker: IQ jobs from a queue, through a model, to positions with uncertainty ellipses."""
