"""Studies as files: lines of JSON that hold all of a study, and tables of its trials."""
