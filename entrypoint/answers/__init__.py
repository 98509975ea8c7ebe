"""Questions and answers: what `battery` writes and `compare` reads."""
