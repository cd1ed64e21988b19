"""What users write, read and checked: YAML in, typed data out, errors that name file, line and key. Cheap to import."""
