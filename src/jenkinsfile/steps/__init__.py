"""The steps that a local run supports, one module per subject, and the arguments that they take."""
