"""Runs a declarative Jenkinsfile on this machine. README.md describes its modules in the order of a run."""
