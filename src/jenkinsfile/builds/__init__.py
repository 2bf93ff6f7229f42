"""What belongs to one build: its record, its context, its console, its secrets and its processes."""
