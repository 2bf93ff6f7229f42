"""New data: the rows that arrived or changed since the champion's snapshot, and whether they justify a training.

`row_counts` counts the rows of each day with a checksum, `watermark` stores the counts of a snapshot with its version,
`changes` is the difference to the warehouse's present counts, `check` decides whether it is enough, and `ping_state`
makes sure that the same rows are one ping.
"""
