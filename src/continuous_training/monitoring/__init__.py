"""The monitor: whether the champion is still asked what it learnt, whether it still knows, and what follows.

`reference` is what a version learnt, `log` and `newest` what it is asked now, `live` the days that its answers are
measured on. `quality`, `drift` and `performance` hold one against the other, `decision` says what follows, `ping` asks
Jenkins for it; `examination` is all of it in order.
"""
