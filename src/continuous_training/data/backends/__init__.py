"""Backends for warehouse servers: those of Ibis, without the statements that a read-only user may not execute."""
