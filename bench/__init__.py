"""What the benchmark runs inside each engine's own environment: programs, started by their path."""
