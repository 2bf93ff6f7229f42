"""Runs the verbs of a run as forks of one process that has imported their libraries.

MLflow, pandas and scikit-learn take seconds to import, and a run starts a process for each of its steps. So Set up
starts a fork server, Report ends it, and in between `scripts/ct VERB` starts as a fork of it; so do the stages of all
months of a replay, which ends it itself. The verb has the caller's arguments, environment, working folder and standard
streams, and ends with the caller's exit code and signals. Nothing depends on it: without a server, with another code or
other limits than the server's, and with CT_FORK_SERVER=0 the verb starts as a process of its own.

    scripts/ct plan ──exec──> client ── Unix socket ──> server ──fork──> supervisor ──fork──> scripts/plan.py

The client stands in the process tree where the verb would: it passes signals on, and whoever kills it kills the verb.
The supervisor ends the verb when the client is gone, and the verb ends with its supervisor. The server belongs to one
run: it bears the run's cookie, by which Jenkins and `ct run` find the processes that a build has left.
"""
