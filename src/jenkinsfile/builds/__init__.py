"""The parts of one build: its record, context, source code, console, secrets, interruptions and processes."""
