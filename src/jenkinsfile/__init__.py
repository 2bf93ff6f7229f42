"""A declarative Jenkinsfile on this machine: read (`parser`), examined (`refusals`) and run (`runner`).

Data flows one way: text -> `model.Pipeline` -> refusals -> run. Every module has one subject. `catalogue` is the table
of all steps, options, conditions and parameters that a local run knows: the place to add one.
"""
