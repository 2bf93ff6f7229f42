"""The names of a version's files."""

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
ESTIMATOR, CODE, REQUIREMENTS = "model.skops", "code", "requirements.txt"
