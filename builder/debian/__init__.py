"""What comes from Debian: locked packages, from wherever they are to be had, and a root of them."""
