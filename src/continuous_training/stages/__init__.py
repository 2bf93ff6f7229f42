"""One module per stage of the Jenkinsfile, named as there."""
