"""What the one ascent loop (`_ascend.py`) is made of.

- `working`: the rows that still run, and how they begin and move;
- `results`: where finished runs are written;
- `patience`: a reason to stop besides stationarity (cycles: `summiteer.recurrence`);
- `saturation`: when a tiny residual means nothing; `rescue`: runs made again where
  rounding hid the gradient.
"""
