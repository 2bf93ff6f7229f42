"""The watermark: what of the warehouse the champion has seen, and what has come since.

`counted` counts the rows of each day and sums them up, `kept` keeps that with a version, `news` is what differs now,
`check` decides whether it is enough to ask Jenkins for a run.
"""
