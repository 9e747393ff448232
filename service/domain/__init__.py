"""Domain model of the service: specs, states, records, events, errors. Uses no database, no network, and no files except the catalogue."""
