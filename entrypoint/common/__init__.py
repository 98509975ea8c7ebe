"""What the program and the build side share: nothing else of the program is open to `builder`."""
