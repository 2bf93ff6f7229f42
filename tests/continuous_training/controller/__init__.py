"""Checks of a real Jenkins controller, and a stub of a controller to test the checks with.

`ct test --jenkins URL` runs `test_controller`: its `checks` use the `client` of Jenkins' HTTP API, and compare builds
with `local_runs` of the same commit. `test_checks` runs the checks against `stub`, which behaves as the sources of
Jenkins and its plugins say, or has one fault. Its builds, in `build_queue`, run the project's Jenkinsfile in
`sample_repository`, whose commands write the decisions of the real ones and compute nothing.
"""
