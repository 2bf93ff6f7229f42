"""The Jenkinsfile as a file: its grammar, its parser, and the model that the parser makes."""
