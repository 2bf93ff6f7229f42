"""The HTTP interface of one worker: authentication and rate limits, then the endpoints and their description."""
