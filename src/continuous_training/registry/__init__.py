"""MLflow's tracking server and registry: runs, model versions, promotion and rollback as transactions."""
