"""The prediction server: `follower` follows the registry's champion, `app` answers with it, `daemon` starts one."""

SERVICE = "continuous-training"  # what /version calls itself, so that a deployment knows whom it is talking to
