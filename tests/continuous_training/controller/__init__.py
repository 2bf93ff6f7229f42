"""Checks against a real Jenkins controller, and a stand-in for one that they are tried on.

`ct test --jenkins URL` runs `test_controller`: the `checks`, through the few calls of `jenkins`, and `here`, which
makes the runs that the controller's are held against. `test_checks` tries all of this on `stub`, which behaves as
Jenkins and its plugins do by their sources, or wrongly in one way; its `builds` are runs of the project's own
Jenkinsfile in the little `project`, whose commands only say what the real ones would decide.
"""
