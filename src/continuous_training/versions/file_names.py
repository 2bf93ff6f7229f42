"""The names of a version's files."""

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
ESTIMATOR, NATIVE, CODE = "model.skops", "native", "code"
DESCRIPTION = "description.json"
REQUIREMENTS, PACKAGES = "requirements.txt", "packages.txt"
