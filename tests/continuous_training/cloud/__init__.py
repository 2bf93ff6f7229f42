"""AWS on this machine, for tests and by hand: moto behind real signatures and policies, and machines that really boot.

A call passes, from the outside to the inside: `clock` (AWS's can differ), `authorization` (signature and IAM policies),
`faults` (the errors that a test causes), `moto_extensions` (what AWS does and moto does not), and moto. Each of them
maps a `Call` to a `Response`. `machine` is the hypervisor: it runs the user data of each instance with bash.
"""
