"""AWS on this machine, for tests and by hand: moto behind real signatures and policies, and machines that really boot.

A call passes, from the outside in: `clock` (AWS's may differ), `gate` (signature and IAM policies), `faults` (what a
test wants to go wrong), `amendments` (what AWS does and moto does not), and moto. Each of them takes a `Call` and gives
an `Answer`. `machine` is the hypervisor: it runs the user data of each instance with bash.
"""
