"""Models: what is wanted, where it comes from, in which form."""
