"""What `./llmdeploy clients` runs in the clients' own environments: a program for each."""
