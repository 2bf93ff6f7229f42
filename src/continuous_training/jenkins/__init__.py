"""What talks to a Jenkins controller, or stands around one: pings, secrets, the tunnel, notifications."""
