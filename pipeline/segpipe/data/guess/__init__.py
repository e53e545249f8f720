"""What a folder of a user's holds: every guess has a reason, and an option that overrides it."""
