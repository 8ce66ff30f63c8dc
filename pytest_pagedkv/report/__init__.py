"""What a run says: a section in the terminal, a file with everything."""
