"""What Deploy and Roll back do with servers: call them, wait for a version, check and observe it."""
