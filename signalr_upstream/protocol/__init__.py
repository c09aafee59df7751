"""The wire forms: what is said between clients, service and app. No I/O, no clock."""
