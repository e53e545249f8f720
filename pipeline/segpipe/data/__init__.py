"""Data: dataset cards, readers for images and masks, geometry, augmentation, the generated scenes."""
