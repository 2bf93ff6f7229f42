"""Around a Jenkins controller: pings, secrets of the stack, the tunnel, notifications."""
