"""The model card of `powder.onnx`, from the reports that `make powder` wrote.

make powder && python -m examples.powder.card
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any, Final

from examples.model_file import read_contract
from examples.powder.__main__ import OUT
from examples.powder.campus import FINAL, MODELS
from examples.powder.evaluation import REPORT
from examples.powder.training import Recipe

CARD: Final = FINAL.with_suffix(".card.md")
PICTURES: Final = MODELS / "powder"
_PICTURES: Final = ("errors.png", "pit.png", "error-map.png", "ellipse-map.png")
_ROWS: Final = {
    "median_m": ("median error", "m", 1.0),
    "mean_m": ("mean error", "m", 1.0),
    "p90_m": ("90th percentile of the error", "m", 1.0),
    "coverage39": ("39 % ellipse holds the truth", "%", 100.0),
    "coverage50": ("50 % ellipse", "%", 100.0),
    "coverage90": ("90 % ellipse", "%", 100.0),
    "coverage95": ("95 % ellipse", "%", 100.0),
    "nll": ("negative log-likelihood, nats per m²", "", 1.0),
}
_MIT: Final = """MIT License

Copyright (c) [2024] [University of Utah]

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in
all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN
THE SOFTWARE."""


def markdown(card: dict[str, Any], near: dict[str, Any], far: dict[str, Any]) -> str:
    """The card as a page.

    Args:
        card: the free fields of the model's contract.
        near: report over the folds of 150 m cells.
        far: report over the folds of 300 m cells.
    """
    return "\n\n".join([_head(card), _accuracy(near, far), _pictures(), _method(), _LIMITS, _AGAIN, _licence()]) + "\n"


def _head(card: dict[str, Any]) -> str:
    return f"""# Model `powder`

Where a 1 W handheld transmitter on 462.7 MHz (FRS/GMRS) is, from what up to 29 fixed receivers on the campus of the
University of Utah in Salt Lake City hear of it.

**Received powers, geometry and truth (GPS) are real; the waveforms are not.** The data set, *Wireless Device
Localization Dataset*, [Zenodo 7259895]({card["source"]}), holds powers in a 6 kHz filter, not IQ. For
each sample, IQ is made that has the measured power at every receiver. What that leaves out: see Limits.

| | |
|---|---|
| file | `powder.onnx`, contract and golden vectors inside |
| input | 12 bands of 500 Hz of each receiver at their level (one full scale for all jobs), and which are present |
| output | east and north of the receivers' middle; Cholesky factor of the covariance |
| model | level in the band, power-weighted centroids, {card["members"]} small networks; their mixture |
| training | {card["training_samples"]:,} samples of five days in 2022; training sees their powers, no IQ |
| calibration | one factor on the standard deviations, from the 90 % quantile of d² out of fold, on 150 m cells |
| licence | data: MIT (below); code and weights: Apache-2.0 |"""


def _accuracy(near: dict[str, Any], far: dict[str, Any]) -> str:
    rows = "\n".join(
        f"| {title} | {_estimate(near, name, unit, factor)} | {_estimate(far, name, unit, factor)} |"
        for name, (title, unit, factor) in _ROWS.items()
    )
    return f"""## Accuracy: cross-validation through the queue

Not figures of the file `powder.onnx`, which was trained on all samples: those of ten models that the same recipe
gives, each asked only for cells of the map that neither its training nor its calibration saw. Every sample went as IQ
through RabbitMQ, a worker, and back (`make powder`), {near["n"]:,} of them, {near["failed"]} without a fix. In
brackets: 95 % intervals by bootstrap over 150 m cells, for samples of one cell are not independent.

| | unseen 150 m cells | unseen 300 m cells: extrapolation |
|---|---|---|
{rows}

Receivers stand 237 m apart. Cells of 150 m put a sample as far from the nearest training sample (median about 40 m) as
the published unseen cells of this data set are; cells of 300 m ask for more than the model was calibrated for."""


def _estimate(report: dict[str, Any], name: str, unit: str, factor: float) -> str:
    value, low, high = (factor * report["figures"][name][part] for part in ("value", "low", "high"))
    digits = 0 if unit == "m" else 1 if unit == "%" else 2
    return f"{value:.{digits}f}{unit and ' ' + unit} ({low:.{digits}f} to {high:.{digits}f})"


def _pictures() -> str:
    titles = ("Errors", "PIT: flat at 1 would be perfect", "Errors on the map", "90 % ellipses on the map")
    return "Unseen 150 m cells:\n\n" + "\n".join(
        f"![{title}]({PICTURES.name}/{picture})" for title, picture in zip(titles, _PICTURES, strict=True)
    )


def _method() -> str:
    recipe = Recipe()
    return f"""## Method

- Levels enter as (dB + 80)/15 with a presence mask, beside three power-weighted centroids of the receivers. Moving
  receivers (buses) are left out.
- Networks of {recipe.layers} layers of {recipe.hidden} predict an offset from a centroid and a Cholesky factor under a
  Gaussian likelihood: five folds of 150 m cells by {recipe.seeds} seeds, {recipe.steps:,} steps of Adam each.
- Augmentation: {recipe.common_db} dB common to a sample, {recipe.each_db} dB per receiver, up to
  {100 * recipe.dropout:.0f} % of the receivers left out.
- The covariance is that of the members and of their spread within a fold, as calibration sees it."""


_LIMITS: Final = """## Limits

- The waveform is a synthesised narrow-band FM voice in white noise at each receiver's measured floor. Multipath,
  interference, clock and frequency errors of the real recordings are not in it, beyond what the powers hold of them.
- Powers are relative and not calibrated between receivers: the model knows these receivers with these gains, and one
  fixed full scale. Per-job normalisation of the IQ would destroy what it goes by.
- The transmitters were carried along few streets on five days; where nobody walked, the model extrapolates.
- Width, steps and the form of the covariance were chosen by cross-validation on these same samples. No weight and no
  scale saw the cells it is judged on, but the recipe did: expect a little less on new data.
- One Gaussian describes what often has two places: the 50 % ellipses hold well over half. The
  scale is set at 90 %, and a little wide there: the members judged together are better than the few that calibrate.
- It takes five receivers or more."""

_AGAIN: Final = """## Make it again

The data are not part of the project: put them into `../shared/powder`, or name their directory in
`POWDER_DIR`.

```
make powder-train
make powder
.venv/bin/python -m examples.powder.card
```

`make powder DATA=FILE` asks `powder.onnx` for the samples of a file that it has not seen, in the format of
`single_tx.csv`."""


def _licence() -> str:
    return f"## Licence of the data\n\n```\n{_MIT}\n```"


def main() -> None:
    """Write the card and its pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=Path, default=OUT)
    directory = parser.parse_args().reports
    near, far = (json.loads((directory / name / REPORT).read_bytes()) for name in ("cells150", "cells300"))
    CARD.write_text(markdown(read_contract(FINAL)["card"], near, far), "utf-8")
    PICTURES.mkdir(exist_ok=True)
    for picture in _PICTURES:
        shutil.copy(directory / "cells150" / picture, PICTURES / picture)
    print(f"wrote {CARD} and {PICTURES}/")


if __name__ == "__main__":
    main()
