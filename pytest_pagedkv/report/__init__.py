"""What a run found, and how it says so: a section in the terminal, a file with everything."""
