"""One dataset card a file: classes, palette, void, layout, splits, licence and where it comes from."""
