"""What reports are made of: HTML and SVG without a template language, scales, marks, and a common style."""
