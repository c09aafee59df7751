"""What has happened at a local service: kept, shown as values, exported and played again."""
