"""What a user of the hub may start, and how."""
