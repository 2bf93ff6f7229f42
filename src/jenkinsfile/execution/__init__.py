"""The execution of a pipeline: the build, its stages, their conditions, steps and `post` sections."""
