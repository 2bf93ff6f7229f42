"""The settings of this suite. It imports nothing but the tool, pytest, hypothesis and the modules beside it."""

import hypothesis

# No test depends on the speed of the machine.
hypothesis.settings.register_profile("jenkinsfile", deadline=None)
hypothesis.settings.load_profile("jenkinsfile")
