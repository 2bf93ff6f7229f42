"""The names of a version's files."""

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
ESTIMATOR, CODE = "model.skops", "code"
REQUIREMENTS, PACKAGES = "requirements.txt", "packages.txt"
