"""Parts that the networks are composed of: layers, a backbone, necks and heads."""
