"""What every part of the library needs: errors, files, randomness, shapes, regions, the registry."""
