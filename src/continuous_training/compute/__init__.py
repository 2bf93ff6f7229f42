"""Where the training entry point runs. Each module offers `train`, with the same arguments and the same result.

`local` runs it on this machine, `ec2.training` on EC2 instances.
"""

PEAK_MEMORY = "peak_memory_mb"  # a metric: the memory that the fit needed, by which people choose a machine
