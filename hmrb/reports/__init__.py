"""Reports for people: pages, tables, pictures."""
