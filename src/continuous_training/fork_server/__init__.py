"""Runs the verbs of a run as forks of one process that has imported their libraries.

MLflow, pandas and scikit-learn take seconds to import, and a run starts a process for each of its steps. So Set up
starts a fork server, Report ends it, and in between `scripts/ct VERB` starts as a fork of it; so do the stages of all
months of a replay, which ends it itself. The verb has the caller's arguments, environment, working folder and standard
streams, and ends with the caller's exit code and signals. It is optional: without a server, with other code or
limits than the server's, and with CT_FORK_SERVER=0 the verb starts as a separate process.

    scripts/ct plan ──exec──> client ── Unix socket ──> server ──fork──> supervisor ──fork──> scripts/plan.py

The client has the verb's place in the process tree: it forwards signals, and killing it kills the verb. The supervisor
ends the verb when the client is gone, and the verb ends with its supervisor. The server belongs to one run: it has the
run's cookie, by which Jenkins and `ct run` find the leftover processes of a build.
"""
