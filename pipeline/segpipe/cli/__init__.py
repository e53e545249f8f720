"""The command line: every command's signature, what it prints, and nothing that computes."""
