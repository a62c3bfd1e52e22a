"""Studies: frozen cells, their results in a store, and what they say."""
