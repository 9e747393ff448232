"""The service's own words: specs, states, records, events, errors. Pure: no database, no network, no files but the catalogue."""
