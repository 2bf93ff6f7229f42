"""How a server follows the registry: `follower` writes the assignment, each worker's `loader` loads it."""
