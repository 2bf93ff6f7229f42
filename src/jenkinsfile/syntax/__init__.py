"""The declarative syntax: the text of a Jenkinsfile, its grammar, and the model that the parser builds from it."""
