"""SavedModels: what is served, how it is published and checked."""
