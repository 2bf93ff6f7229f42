"""The prediction server, and what Deploy and Roll back do with servers; README.md has the map of the modules."""

SERVICE = "continuous-training"  # the name in /version, by which a deployment recognizes a server of this project
