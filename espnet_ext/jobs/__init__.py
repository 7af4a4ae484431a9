"""The plan of a recipe: steps, fingerprints and their execution."""
