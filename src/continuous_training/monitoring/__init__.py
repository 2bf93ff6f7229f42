"""Monitoring of the champion: drift, data quality, live performance and new data. README.md has the map.

`monitor` runs one check from end to end. `reference` is the profile of the training data, `predictions_log` and
`warehouse_rows` are the two sources of recent rows. `quality`, `drift` and `performance` compare both, `decision`
derives the verdict, and `continuous_training.jenkins.ping` sends the ping.
"""
