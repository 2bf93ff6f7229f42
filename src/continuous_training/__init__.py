"""Continuous training on Jenkins: one module for each verb of the pipeline, in the order of the Jenkinsfile."""
