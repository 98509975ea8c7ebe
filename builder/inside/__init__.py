"""Programs that another Python runs, started by their path."""
