"""What comes from Debian: locked packages from whichever source has them, and a root of these."""
